//! The web page of `rootgan serve`, and the same in one file for `rootgan report`.
//!
//! A [`site::Section`] is one page with its part of the API; [`site::router`] puts sections under one navigation.
//! [`access`] lets in whoever has the token, [`server`] bounds what a client can use, [`answer`] makes responses. The sections
//! are [`runs`] and [`explore`]; their files for the browser are in `page/`, which needs no build step.

pub mod access;
pub mod answer;
pub mod explore;
pub mod report;
pub mod runs;
pub mod server;
pub mod site;
