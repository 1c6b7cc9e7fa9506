//! The store against archives that are whole, broken and hostile.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::Crc;
use flate2::write::DeflateEncoder;

use super::{AdvisoryStore, default_directory};
use crate::adapters::http::Http;
use crate::base::Timestamp;
use crate::ports::advisories::{
    AdvisoryReader as _, AdvisoryWriter as _, ImportError, ImportReport, ImportRequest,
    ImportSource,
};
use crate::scan::Ecosystem;

/// 2026-06-01.
fn now() -> Timestamp {
    Timestamp(1_780_272_000_000)
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn store(&self) -> AdvisoryStore {
        AdvisoryStore::new(self.dir.path().join("store"), Http::new(), now)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    async fn import(&self, path: &Path) -> Result<ImportReport, ImportError> {
        let request = ImportRequest {
            sources: vec![ImportSource::Path(path.to_owned())],
            ..ImportRequest::default()
        };
        self.store().import(request).await
    }
}

fn record(id: &str, affected: &[(&str, &str)]) -> String {
    let affected: Vec<String> = affected
        .iter()
        .map(|(ecosystem, name)| {
            format!(
                r#"{{"package": {{"ecosystem": "{ecosystem}", "name": "{name}"}}, "ranges":
                [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "2.0"}}]}}]}}"#
            )
        })
        .collect();
    let affected = affected.join(",");
    format!(r#"{{"id": "{id}", "modified": "2026-05-01T00:00:00Z", "affected": [{affected}]}}"#)
}

/// An archive of packed members.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in members {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).expect("it packs");
        let packed = encoder.finish().expect("it packs");
        let mut crc = Crc::new();
        crc.update(content);
        let offset = bytes.len() as u32;
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(packed);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((members.len() as u16).to_le_bytes());
    bytes.extend((members.len() as u16).to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn families(report: &ImportReport) -> Vec<(&str, u64)> {
    let imported = report.imported.iter();
    imported
        .map(|one| (one.family.name.as_str(), one.family.records))
        .collect()
}

#[tokio::test]
async fn an_archive_replaces_the_family_it_is_published_for() {
    let place = Place::new();
    let both = record("GHSA-2", &[("npm", "b"), ("Maven", "org:b")]);
    let withdrawn = r#"{"id": "GHSA-3", "withdrawn": "2026-01-01T00:00:00Z", "affected":
        [{"package": {"ecosystem": "npm", "name": "c"}, "versions": ["1.0.0"]}]}"#;
    let one = record("GHSA-1", &[("npm", "a")]);
    let archive = zip(&[
        ("GHSA-1.json", one.as_bytes()),
        ("../../etc/GHSA-2.json", both.as_bytes()),
        ("GHSA-3.json", withdrawn.as_bytes()),
        ("broken.json", b"{"),
        ("README.md", b"no record"),
    ]);
    let path = place.file("npm.zip", &archive);
    let report = place.import(&path).await.expect("it imports");
    assert_eq!(families(&report), [("npm", 2)]);
    assert_eq!(report.left_out, [("Maven".to_owned(), 1)]);
    assert_eq!(
        (report.broken_count, report.broken[0].name.as_str()),
        (1, "broken.json")
    );
    let store = place.store();
    let npm = Ecosystem("npm".to_owned());
    let affected = store.affected(&npm, "b").expect("it reads");
    assert_eq!(affected.len(), 1);
    let notice = store.notice("npm", affected[0].notice).expect("it reads");
    assert_eq!(notice.id, "GHSA-2");
    assert_eq!(store.affected(&npm, "c").expect("it reads"), []);
    let family = store.family("npm").expect("it reads").expect("it is there");
    assert_eq!((family.withdrawn, family.broken), (1, 1));
    assert_eq!(family.dated(), Some(Timestamp(1_777_593_600_000)));
    assert_eq!(store.family("Maven").expect("it reads"), None);

    // What is open stays as it is; what is opened later is new.
    let again = zip(&[("GHSA-1.json", one.as_bytes())]);
    let path = place.file("npm.zip", &again);
    let report = place.import(&path).await.expect("it imports");
    assert_eq!(report.imported[0].before, Some(2));
    assert_eq!(store.affected(&npm, "b").expect("it reads").len(), 1);
    assert_eq!(place.store().affected(&npm, "b").expect("it reads"), []);
    let left: Vec<String> = std::fs::read_dir(place.store().directory())
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_is_read_whole_and_the_newest_of_a_record_counts() {
    let place = Place::new();
    let old = record("DSA-1", &[("Debian:11", "old")]).replace("2026-05", "2026-04");
    let new = record("DSA-1", &[("Debian:12", "new")]);
    let future = record("GHSA-9", &[("PyPI", "Some.Thing")]).replace("2026-05", "2027-05");
    place.file("data/a/new.json", new.as_bytes());
    place.file("data/b/old.json", old.as_bytes());
    place.file(
        "data/PyPI/all.zip",
        &zip(&[("GHSA-9.json", future.as_bytes())]),
    );
    place.file("data/.git/x.json", b"{");
    std::os::unix::fs::symlink("..", place.dir.path().join("data/loop")).expect("a link");
    let report = place
        .import(&place.dir.path().join("data"))
        .await
        .expect("it imports");
    assert_eq!(families(&report), [("Debian", 1), ("PyPI", 1)]);
    assert_eq!(report.broken_count, 0);
    let store = place.store();
    let found = |ecosystem: &str, name: &str| {
        let ecosystem = Ecosystem(ecosystem.to_owned());
        store.affected(&ecosystem, name).expect("it reads").len()
    };
    assert_eq!(
        (found("Debian:11", "old"), found("Debian:12", "new")),
        (0, 1)
    );
    assert_eq!(found("PyPI", "some-thing"), 1);
    // A date that has not come yet does not make it fresh.
    assert_eq!(
        store
            .family("PyPI")
            .expect("it reads")
            .expect("it is there")
            .dated(),
        None
    );
    let all = store.families().expect("it reads");
    assert_eq!(
        all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["Debian", "PyPI"]
    );
}

#[tokio::test]
async fn far_fewer_records_do_not_replace_many() {
    let place = Place::new();
    let records: Vec<(String, String)> = (0..4)
        .map(|at| {
            (
                format!("{at}.json"),
                record(&format!("GO-{at}"), &[("Go", "m")]),
            )
        })
        .collect();
    let members: Vec<(&str, &[u8])> = records
        .iter()
        .map(|(name, json)| (name.as_str(), json.as_bytes()))
        .collect();
    place
        .import(&place.file("Go.zip", &zip(&members)))
        .await
        .expect("it imports");
    let one = place.file("one.json", records[0].1.as_bytes());
    let report = place.import(&one).await.expect("it is refused");
    assert_eq!((report.refused[0].has, report.refused[0].offered), (4, 1));
    let has = |place: &Place| {
        place
            .store()
            .family("Go")
            .expect("it reads")
            .expect("it")
            .records
    };
    assert_eq!(has(&place), 4);
    let request = ImportRequest {
        sources: vec![ImportSource::Path(one)],
        allow_fewer: true,
        ..ImportRequest::default()
    };
    place.store().import(request).await.expect("it imports");
    assert_eq!(has(&place), 1);
}

#[tokio::test]
async fn hostile_archives_are_refused_and_change_nothing() {
    let place = Place::new();
    let good = record("GO-1", &[("Go", "m")]);
    let whole = zip(&[("1.json", good.as_bytes()), ("2.json", good.as_bytes())]);
    place
        .import(&place.file("whole.zip", &whole))
        .await
        .expect("it imports");
    let end = whole.len() - 22;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    // The second entry of the directory points to the first member, again and again.
    let overlapping = {
        let start = u32::from_le_bytes(whole[end + 16..end + 20].try_into().expect("four bytes"));
        let entry = whole[start as usize..start as usize + 52].to_vec();
        let mut bytes = whole[..start as usize].to_vec();
        for _ in 0..5000 {
            bytes.extend(&entry);
        }
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([5000_u16.to_le_bytes(), 5000_u16.to_le_bytes()].concat());
        bytes.extend((52_u32 * 5000).to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    };
    let bomb = zip(&[("bomb.json", &vec![b' '; 40 << 20])]);
    for (name, bytes, why) in [
        (
            "cut",
            whole[..end - 10].to_vec(),
            "its directory is missing",
        ),
        (
            "cut-start",
            b"PK\x03\x04".to_vec(),
            "its directory is missing",
        ),
        ("many", with(&|bytes| bytes[end + 10] = 200), "does not fit"),
        ("far", with(&|bytes| bytes[end + 18] = 200), "does not fit"),
        ("moved", with(&|bytes| bytes[0] = b'X'), "no advisories"),
        ("flipped", with(&|bytes| bytes[50] ^= 0xff), "broken"),
        ("overlapping", overlapping, "overlap"),
        ("bomb", bomb, "longer than 16777216 bytes"),
        ("empty", zip(&[]), "no advisories that can be matched"),
    ] {
        let path = place.file(&format!("{name}.zip"), &bytes);
        let imported = place.import(&path).await;
        // One member that is bad does not lose the other.
        if name == "flipped" {
            let report = imported.expect("the other one is good");
            assert_eq!(
                (report.broken_count, families(&report)),
                (1, vec![("Go", 1)])
            );
            continue;
        }
        let error = imported.expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    let family = place
        .store()
        .family("Go")
        .expect("it reads")
        .expect("it is there");
    assert_eq!(family.records, 1);
}

#[tokio::test]
async fn a_broken_store_says_so() {
    let place = Place::new();
    let path = place.file("one.json", record("GO-1", &[("Go", "m")]).as_bytes());
    place.import(&path).await.expect("it imports");
    let file = place.store().directory().join("Go.advisories");
    let bytes = std::fs::read(&file).expect("the file");
    std::fs::write(&file, &bytes[..bytes.len() / 3]).expect("a file");
    let error = place
        .store()
        .family("Go")
        .and_then(|_| place.store().affected(&Ecosystem("Go".to_owned()), "m"));
    let error = error.expect_err("it is cut off").to_string();
    assert!(error.contains("import it again"), "{error}");
    // An import heals it.
    place.import(&path).await.expect("it imports");
    assert!(place.store().family("Go").expect("it reads").is_some());
}

#[tokio::test]
async fn imports_take_turns_and_readers_see_one_or_the_other() {
    let place = Place::new();
    let records = |marker: &str| -> Vec<u8> {
        let all: Vec<(String, String)> = (0..200)
            .map(|at| {
                (
                    format!("{at}.json"),
                    record(&format!("{marker}-{at}"), &[("Go", "m")]),
                )
            })
            .collect();
        let members: Vec<(&str, &[u8])> = all
            .iter()
            .map(|(name, json)| (name.as_str(), json.as_bytes()))
            .collect();
        zip(&members)
    };
    let (a, b) = (
        place.file("a.zip", &records("A")),
        place.file("b.zip", &records("B")),
    );
    place.import(&a).await.expect("it imports");
    let reading = tokio::spawn({
        let path = place.store().directory().to_owned();
        async move {
            for _ in 0..50 {
                let store = AdvisoryStore::new(path.clone(), Http::new(), now);
                let affected = store
                    .affected(&Ecosystem("Go".to_owned()), "m")
                    .expect("it reads");
                assert_eq!(affected.len(), 200);
                let mut ids = affected.iter().map(|one| {
                    let id = store.notice("Go", one.notice).expect("it reads").id;
                    id.chars().next().expect("a letter")
                });
                let first = ids.next().expect("one");
                assert!(ids.all(|letter| letter == first));
                tokio::task::yield_now().await;
            }
        }
    });
    let (first, second) = tokio::join!(place.import(&a), place.import(&b));
    assert_eq!(families(&first.expect("it imports")), [("Go", 200)]);
    assert_eq!(families(&second.expect("it imports")), [("Go", 200)]);
    reading.await.expect("readers are never surprised");
}

/// Answers one request after another with what it was given, and tells what was asked for.
fn server(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a request");
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            asked.push(text.lines().next().unwrap_or_default().to_owned());
            stream.write_all(&answer).expect("an answer");
        }
        asked
    });
    (address, serving)
}

fn answer(head: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn archives_are_fetched_whole_or_not_at_all() {
    let place = Place::new();
    let body = zip(&[("1.json", record("GO-1", &[("Go", "m")]).as_bytes())]);
    let moved = answer("302 Found\r\nLocation: /Go/new.zip", 0, b"");
    let dated = "200 OK\r\nLast-Modified: Sun, 31 May 2026 12:00:00 GMT";
    let elsewhere = answer("302 Found\r\nLocation: http://example.com/all.zip", 0, b"");
    let (address, serving) = server(vec![
        moved,
        answer(dated, body.len(), &body),
        answer("404 Not Found", 7, b"no file"),
        answer("200 OK", body.len(), &body[..body.len() - 9]),
        elsewhere,
    ]);
    let import = async || {
        let request = ImportRequest {
            sources: vec![ImportSource::Url(format!("{address}/Go/all.zip"))],
            ..ImportRequest::default()
        };
        place.store().import(request).await
    };
    let report = import().await.expect("it imports");
    let family = &report.imported[0].family;
    assert_eq!(family.published, Some(Timestamp(1_780_228_800_000)));
    assert_eq!(family.dated(), family.published);
    assert_eq!(family.source, format!("{address}/Go/all.zip"));
    for why in [
        "404 Not Found: no file",
        "Go/all.zip: ",
        "https only, not from example.com",
    ] {
        let error = import().await.expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let asked = serving.join().expect("it served");
    assert_eq!(asked[1], "GET /Go/new.zip HTTP/1.1");
    assert_eq!(place.store().families().expect("it reads").len(), 1);
}

#[test]
fn the_directory_is_the_users() {
    let of = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        default_directory(|name| {
            let found = set.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.into())
        })
    };
    assert_eq!(of(&[]), None);
    assert_eq!(
        of(&[("HOME", "/h")]),
        Some("/h/.local/share/pipewright/advisories".into())
    );
    let data = [("HOME", "/h"), ("XDG_DATA_HOME", "/d")];
    assert_eq!(of(&data), Some("/d/pipewright/advisories".into()));
    assert_eq!(of(&[("XDG_DATA_HOME", "relative")]), None);
    assert_eq!(
        of(&[("PIPEWRIGHT_ADVISORIES", "/a"), ("HOME", "/h")]),
        Some("/a".into())
    );
}
