//! Downloads a file by http or https into the cache, once per address. An interrupted download goes on where it was.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::atomic::{fill_folder_atomically, remove_folder_if_there, remove_if_there, write_json};
use crate::files::bounded::read_text;
use crate::files::cache::{Cache, CachePart};
use crate::files::checksum::sha256;
use crate::files::lock::Lock;
use crate::files::opening::to_change_or_make;
use crate::model::begins_as_page;
use crate::system::signals::StopRequest;
use crate::system::ui::{Bar, say};

/// Longest time that a server may take to answer, and later be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks for a signal.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// The bytes that are read at once.
const CHUNK: usize = 1 << 18;
/// The record beside a downloaded file.
const RECORD: &str = "download.json";

/// What a server said, or what became of the connection.
type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// The record of a downloaded file, or of one that is being downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DownloadRecord {
    url: String,
    file: String,
    bytes: Option<u64>,
    sha256: Option<String>,
    /// The server's name for this version of the file; a download goes on only with the same version.
    version: Option<String>,
}

/// Whether a source is an address and no path.
pub fn is_address(source: &Path) -> bool {
    source.to_str().is_some_and(|text| text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Returns the path of the file at `url`, which is downloaded where the cache has none, or none with the SHA-256
/// `expected`.
///
/// # Errors
/// The address is not http or https, there is no network, the answer is no file, a web page or another file than is
/// expected, or there is no place for the file.
pub fn download(url: &str, expected: Option<&str>) -> Result<PathBuf> {
    ensure!(
        ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)),
        "cannot download '{url}': only http and https addresses can be fetched; download it by other means and pass the file"
    );
    let cache = Cache::of_user().with_context(|| {
        format!("cannot download '{url}': there is no folder for it (HOME is not set); set XDG_CACHE_HOME to one")
    })?;
    let downloads = cache.folder(CachePart::Downloads);
    let entry = downloads.join(&format!("{:x}", Sha256::digest(url))[..16]);
    if let Some(path) = there(&entry, expected) {
        return Ok(path);
    }
    let no_place = || {
        format!(
            "cannot download '{url}' into '{}'; XDG_CACHE_HOME chooses another place, or download it by other means and pass \
             the file",
            downloads.display()
        )
    };
    fs::create_dir_all(&downloads).with_context(no_place)?;
    let stop = StopRequest::listen()?;
    let waiting = || say("waiting for another process that downloads the same file");
    let _lock = Lock::when_free(&entry, &stop, waiting).with_context(no_place)?;
    if let Some(path) = there(&entry, expected) {
        return Ok(path);
    }
    // What is there is not whole, or not what is expected.
    remove_folder_if_there(&entry).with_context(no_place)?;
    let partial = Partial::beside(&entry, url);
    let record = partial.fetch(&cache, &stop)?;
    fill_folder_atomically(&entry, |folder| {
        fs::rename(&partial.file, folder.join(&record.file))?;
        write_json(&folder.join(RECORD), &record)
    })
    .with_context(no_place)?;
    partial.remove()?;
    let path = entry.join(&record.file);
    let (bytes, sha256) = (record.bytes.unwrap_or(0), record.sha256.unwrap_or_default());
    say(format!("downloaded '{}': {:.1} MB, sha256 {sha256}", record.file, bytes as f64 / 1e6));
    if let Some(expected) = expected {
        ensure!(
            sha256 == expected,
            "cannot use '{url}': its sha256 is {sha256}, not {expected}, and it was downloaded just now; it is another file \
             than you expect, so check the address and where the checksum is from"
        );
    }
    Ok(path)
}

/// Returns the downloaded file of an entry, if it is whole and the one that is expected, and notes its use.
fn there(entry: &Path, expected: Option<&str>) -> Option<PathBuf> {
    let record: DownloadRecord = serde_json::from_str(&read_text(&entry.join(RECORD)).ok()?).ok()?;
    let recorded = record.sha256.filter(|recorded| expected.is_none_or(|expected| recorded == expected))?;
    let path = entry.join(&record.file);
    let has_length = fs::metadata(&path).is_ok_and(|about| Some(about.len()) == record.bytes);
    let is_whole = has_length && sha256(&path).is_ok_and(|found| found == recorded);
    is_whole.then(|| {
        Cache::touch(entry);
        path
    })
}

/// An unfinished download: the bytes that came, and the version of the file that they belong to.
struct Partial {
    file: PathBuf,
    about: PathBuf,
    url: String,
}

impl Partial {
    fn beside(entry: &Path, url: &str) -> Self {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let at = |ending: &str| entry.with_file_name(format!(".{name}.{ending}"));
        Self { file: at("part"), about: at("part.json"), url: url.to_owned() }
    }

    fn remove(&self) -> Result<()> {
        remove_if_there(&self.file)?;
        remove_if_there(&self.about)
    }

    /// Fetches what is missing; returns the record of the whole file.
    fn fetch(&self, cache: &Cache, stop: &StopRequest) -> Result<DownloadRecord> {
        let url = &self.url;
        let before = read_text(&self.about).ok().and_then(|text| serde_json::from_str::<DownloadRecord>(&text).ok());
        let version = before.and_then(|record| record.version);
        let have = version.as_ref().and_then(|_| fs::metadata(&self.file).ok()).map_or(0, |about| about.len());
        let mut answer = self.ask(have, version, stop)?.map_err(|error| {
            anyhow!("cannot download '{url}': {}; check the address and the network", words_of(&error))
        })?;
        if answer.status() == 416 {
            // The server's file is shorter than what is there, so the download begins again.
            self.remove()?;
            answer =
                self.ask(0, None, stop)?.map_err(|error| anyhow!("cannot download '{url}': {}", words_of(&error)))?;
        }
        let status = answer.status();
        let goes_on = status == 206;
        ensure!(
            status.is_success(),
            "cannot download '{url}': the server answers {status}; check the address, or download the file with a browser and \
             pass it"
        );
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let record = DownloadRecord {
            url: url.clone(),
            file: name_in(url),
            bytes: answer.body().content_length().map(|rest| rest + if goes_on { have } else { 0 }),
            sha256: None,
            // A weak tag does not say that the bytes are the same.
            version: header("etag").filter(|tag| !tag.starts_with("W/")).or_else(|| header("last-modified")),
        };
        if let Some(bytes) = record.bytes {
            cache.make_room(bytes);
        }
        let context = || format!("cannot write '{}'; XDG_CACHE_HOME chooses another place", self.file.display());
        let mut file = to_change_or_make(&self.file).with_context(context)?;
        match goes_on {
            true => std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).with_context(context)?,
            false => file.set_len(0).map(|()| 0).with_context(context)?,
        };
        write_json(&self.about, &record)?;
        let done = if goes_on { have } else { 0 };
        if goes_on {
            say(format!("going on at {:.1} MB", done as f64 / 1e6));
        }
        self.receive(answer.into_body().into_reader(), &mut file, (done, record.bytes), stop)?;
        file.sync_all().with_context(context)?;
        let length = file.metadata().with_context(context)?.len();
        ensure!(
            record.bytes.is_none_or(|bytes| bytes == length),
            "the download of '{url}' was cut off at {length} of {} bytes; call this again to go on",
            record.bytes.unwrap_or(0)
        );
        if is_page(&self.file)? {
            self.remove()?;
            bail!(
                "'{url}' is a page of text and no checkpoint; copy the address of the file itself, or download it with a browser \
                 and pass the file"
            );
        }
        Ok(DownloadRecord { bytes: Some(length), sha256: Some(sha256(&self.file)?), ..record })
    }

    /// Asks for what is missing; returns the answer, or what became of the connection. A thread of its own waits for
    /// the server, so that a signal is noticed.
    fn ask(&self, have: u64, version: Option<String>, stop: &StopRequest) -> Result<Answer> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .user_agent(concat!("rootgan/", env!("CARGO_PKG_VERSION")));
        let mut request = ureq::Agent::new_with_config(config.build()).get(&self.url);
        if let Some(version) = version.filter(|_| have > 0) {
            request = request.header("Range", format!("bytes={have}-")).header("If-Range", version);
        }
        let (sender, receiver) = sync_channel(1);
        std::thread::spawn(move || drop(sender.send(request.call())));
        // The connection has limits of its own, which come first.
        unless_stopped(&receiver, 4 * PATIENCE, stop)?
            .with_context(|| format!("the server of '{}' does not answer; try again later", self.url))
    }

    /// Writes what comes, until nothing more does. A thread of its own reads, so that a silent server and a signal are
    /// noticed.
    fn receive(
        &self,
        mut body: impl Read + Send + 'static,
        file: &mut File,
        (done, total): (u64, Option<u64>),
        stop: &StopRequest,
    ) -> Result<()> {
        let (sender, receiver) = sync_channel::<std::io::Result<Vec<u8>>>(4);
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = body.read(&mut chunk);
                let is_last = !matches!(read, Ok(1..));
                let sent = sender.send(read.map(|count| {
                    chunk.truncate(count);
                    chunk
                }));
                if is_last || sent.is_err() {
                    return;
                }
            }
        });
        let bar = Bar::of_bytes(total.unwrap_or(0), "downloading");
        bar.begin_at(done);
        let again = "call this again to go on";
        loop {
            match unless_stopped(&receiver, PATIENCE, stop)? {
                Ok(Ok(chunk)) if chunk.is_empty() => break,
                Ok(Ok(chunk)) => {
                    file.write_all(&chunk)
                        .with_context(|| format!("cannot write '{}'; make room, then {again}", self.file.display()))?;
                    bar.inc(chunk.len() as u64);
                }
                Ok(Err(error)) => bail!("the download of '{}' was cut off: {error}; {again}", self.url),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the server of '{}' sent nothing for {} s; {again}", self.url, PATIENCE.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        bar.finish();
        Ok(())
    }
}

/// Waits for what a thread sends, at most so long, and looks for a signal meanwhile.
///
/// # Errors
/// [`Interrupted`](crate::system::signals::Interrupted) once a signal came.
fn unless_stopped<T>(
    receiver: &Receiver<T>,
    most: Duration,
    stop: &StopRequest,
) -> Result<Result<T, RecvTimeoutError>> {
    let until = Instant::now() + most;
    loop {
        stop.check()?;
        let rest = until.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(rest.min(BETWEEN_LOOKS)) {
            Err(RecvTimeoutError::Timeout) if !rest.is_zero() => {}
            found => return Ok(found),
        }
    }
}

/// Says what an error of the network means, without the library's own terms.
fn words_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "there is no such host, or no network".to_owned(),
        ureq::Error::ConnectionFailed => "the server cannot be reached".to_owned(),
        ureq::Error::Timeout(_) => format!("the server did not answer within {} s", PATIENCE.as_secs()),
        ureq::Error::TooManyRedirects => "the server sends from one address to the next".to_owned(),
        error => error.to_string(),
    }
}

/// Returns the name of the file in an address, without characters that are not safe in a name.
fn name_in(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).split(['?', '#']).next().unwrap_or_default();
    let name = path.split('/').skip(1).last().unwrap_or_default();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(100).collect();
    let plain = plain.trim_start_matches('.');
    if plain.is_empty() || plain == RECORD { "download".to_owned() } else { plain.to_owned() }
}

/// Whether a file begins as web pages do.
fn is_page(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(1024).read_to_end(&mut head))?;
    Ok(begins_as_page(&head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for address in ["http://a/b", "https://a", "ftp://a/b", "s3://bucket/key", "x+y://a"] {
            assert!(is_address(Path::new(address)), "{address}");
        }
        for path in ["runs/00000", "a:b", "C:/x", "://a", "./http:/a", "a b://c"] {
            assert!(!is_address(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_file_is_named_as_in_its_address() {
        for (url, name) in [
            ("https://a/b/ffhq.pkl", "ffhq.pkl"),
            ("https://a/b/ffhq.pkl?download=1#x", "ffhq.pkl"),
            ("https://a/", "download"),
            ("https://a", "download"),
            ("https://a/..", "download"),
            ("https://a/x%2F..%2Fy", "x2F..2Fy"),
            ("https://a/download.json", "download"),
        ] {
            assert_eq!(name_in(url), name, "{url}");
        }
    }
}
