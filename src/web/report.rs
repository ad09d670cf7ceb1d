//! Reports: the page of runs with its data in one file, which opens without a network.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use serde_json::{Value, json};

use super::runs::{self, RunEntry};

/// Most pictures of all runs together, and the width that they are made smaller to.
const MOST_PICTURES: usize = 24;
const WIDEST: u32 = 1024;
const JPEG_QUALITY: u8 = 80;
/// Most bytes of pictures, in base64: the whole report stays under 5 MB.
const PICTURE_BYTES: usize = 4_000_000;

/// Makes a report of the runs in these folders.
///
/// # Errors
/// There are no runs, or their files cannot be read.
pub fn report(roots: &[PathBuf]) -> Result<String> {
    let runs = runs::list(roots);
    ensure!(
        !runs.is_empty(),
        "there is no run in '{}'; pass the folder of a run or of a comparison, such as runs/00000-...",
        roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join("', '")
    );
    let each = (MOST_PICTURES / runs.len()).max(2);
    let mut views = Vec::new();
    for run in &runs {
        views.push(view(run, each)?);
    }
    let bytes = |views: &[Value]| views.iter().map(|view| view["pictures"].to_string().len()).sum::<usize>();
    // Pictures are left out from the middle until the rest is small enough.
    while bytes(&views) > PICTURE_BYTES {
        let largest =
            views.iter_mut().max_by_key(|view| view["grids"].as_array().map_or(0, Vec::len)).context("a run")?;
        leave_out_middle(largest)?;
    }
    // `</script>` in a name would end the data; JSON may write the character otherwise.
    let data = json!({ "runs": views }).to_string().replace('<', "\\u003c");
    let page = include_str!("page/index.html");
    let style = format!("<style>{}</style>", include_str!("page/style.css"));
    let charts = include_str!("page/charts.js").replace("export ", "");
    let app = include_str!("page/runs.js");
    let (_, app) = app.split_once('\n').context("runs.js begins with its import")?;
    let scripts = format!(
        "<script type=\"application/json\" id=\"report\">{data}</script>\n<script type=\"module\">{charts}\n{app}</script>"
    );
    let page = page.replace("<link rel=\"stylesheet\" href=\"style.css\">", &style);
    let page = page.replace("<script type=\"module\" src=\"runs.js\"></script>", &scripts);
    Ok(page.replace("<nav>", "<nav hidden>"))
}

/// Reads a run, with the pictures of `each` grids at even steps.
fn view(run: &RunEntry, each: usize) -> Result<Value> {
    let shown = runs::view(&run.folder, 0)?;
    let last = shown.grids.len().saturating_sub(1);
    let mut places: Vec<usize> = (0..each).map(|step| step * last / (each - 1).max(1)).collect();
    places.dedup();
    let grids: Vec<_> = places.into_iter().filter_map(|place| shown.grids.get(place).cloned()).collect();
    let mut pictures = serde_json::Map::new();
    for grid in &grids {
        pictures.insert(grid.file.clone(), json!(picture(&run.folder.join(&grid.file))?));
    }
    let mut value = serde_json::to_value(&shown)?;
    value["id"] = json!(run.id);
    value["name"] = json!(run.name);
    value["grids"] = serde_json::to_value(&grids)?;
    value["pictures"] = Value::Object(pictures);
    Ok(value)
}

/// Reads a picture as a JPEG of at most `WIDEST` pixels, in a `data:` address.
fn picture(path: &Path) -> Result<String> {
    let picture = image::open(path).with_context(|| format!("cannot read '{}'", path.display()))?.to_rgb8();
    let (width, height) = (picture.width(), picture.height());
    let picture = match width.cmp(&WIDEST) {
        std::cmp::Ordering::Greater => {
            let height = (u64::from(height) * u64::from(WIDEST) / u64::from(width)).max(1) as u32;
            resize(&picture, WIDEST, height, FilterType::Triangle)
        }
        _ => picture,
    };
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(Cursor::new(&mut jpeg), JPEG_QUALITY))?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
}

fn leave_out_middle(view: &mut Value) -> Result<()> {
    let grids = view["grids"].as_array_mut().context("grids")?;
    ensure!(!grids.is_empty(), "the report would be larger than 5 MB; pass fewer runs");
    let grid = grids.remove(grids.len() / 2);
    let file = grid["file"].as_str().unwrap_or_default();
    view["pictures"].as_object_mut().context("pictures")?.remove(file);
    Ok(())
}
