//! The site: pages with a common navigation, the files that they load, and the API of each below `/api/`.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;

use super::access::{Access, guard};
use super::answer::{Content, constant, problem};

const SHELL: &str = include_str!("page/shell.html");

/// One page of the site with its part of the API.
pub struct Section {
    /// Path of the page: `/` or `/explore`. The navigation and `/api` use it without the slash; `/` is `runs` there.
    pub path: &'static str,
    /// Words in the navigation and the window's title.
    pub title: &'static str,
    /// HTML for `<head>`: the section's own style sheets and scripts, which are `/assets/NAME` of [`Section::assets`].
    /// Inline scripts do not run.
    pub head: &'static str,
    /// HTML inside of `<main>`.
    pub main: &'static str,
    /// Files that the page loads as `/assets/NAME`; names are unique in the site.
    pub assets: &'static [Asset],
    /// Routes below `/api/NAME`.
    pub api: Router,
}

/// A file that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Name below `/assets/`.
    pub name: &'static str,
    /// Type of the content.
    pub content: Content,
    /// The whole file.
    pub text: &'static str,
}

/// Files that every page loads.
const COMMON: [Asset; 2] = [
    Asset { name: "style.css", content: Content::Css, text: include_str!("page/style.css") },
    Asset { name: "page.js", content: Content::JavaScript, text: include_str!("page/page.js") },
];

/// uPlot, which draws plots, with its licence, so that every copy has it.
pub const UPLOT: &str =
    concat!("/*\n", include_str!("page/vendor/uPlot-LICENSE"), "*/\n", include_str!("page/vendor/uPlot.iife.min.js"));

/// Builds the routes of the site, all of which ask `access` first.
pub fn router(sections: Vec<Section>, access: Access) -> Router {
    let assets: Arc<Vec<Asset>> =
        Arc::new(COMMON.iter().chain(sections.iter().flat_map(|section| section.assets)).copied().collect());
    let titles: Vec<(&str, &str)> = sections.iter().map(|section| (section.path, section.title)).collect();
    let mut router = Router::new();
    for section in sections {
        let html = page(&section, &titles);
        router = router.route(
            section.path,
            get(async move |headers: HeaderMap| constant(&headers, Content::Html, html.clone().into_bytes())),
        );
        let name = match section.path {
            "/" => "runs",
            path => path.trim_start_matches('/'),
        };
        router = router.nest(&format!("/api/{name}"), section.api);
    }
    let asset = async move |Path(name): Path<String>, headers: HeaderMap| -> Response {
        match assets.iter().find(|asset| asset.name == name) {
            Some(asset) => constant(&headers, asset.content, asset.text.as_bytes().to_vec()),
            None => missing().await,
        }
    };
    router
        .route("/assets/{name}", get(asset))
        .fallback(missing)
        .layer(axum::middleware::from_fn_with_state(Arc::new(access), guard))
}

async fn missing() -> Response {
    problem(StatusCode::NOT_FOUND, "there is nothing at this address")
}

/// Fills the shell that all pages have in common.
fn page(section: &Section, titles: &[(&str, &str)]) -> String {
    let link = |&(path, title): &(&str, &str)| {
        let current = if path == section.path { " aria-current=\"page\"" } else { "" };
        format!("<a href=\"{path}\"{current}>{title}</a>")
    };
    let links: Vec<String> = titles.iter().map(link).collect();
    SHELL
        .replace("{{title}}", section.title)
        .replace("{{head}}", section.head)
        .replace("{{navigation}}", &links.join(" "))
        .replace("{{main}}", section.main)
}
