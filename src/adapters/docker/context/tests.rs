//! Tests of build contexts on real directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("create");
        fs::write(path, content).expect("write");
    }
    root
}

fn scan(root: &Path) -> Result<BuildContext, EngineError> {
    let dockerfile = Dockerfile::read(root, Path::new("Dockerfile"))?;
    BuildContext::scan(&dockerfile.root, dockerfile.ignore.as_deref())
}

fn facts(root: &Path) -> Result<ContextFacts, EngineError> {
    let dockerfile = Dockerfile::read(root, Path::new("Dockerfile"))?;
    scan(root)?.facts(&dockerfile)
}

fn paths(context: &BuildContext) -> Vec<String> {
    let path = |entry: &Entry| entry.path.to_string_lossy().into_owned();
    context.entries.iter().map(path).collect()
}

fn digest(root: &Path) -> Digest {
    facts(root).expect("readable").digest
}

#[test]
fn the_digest_depends_on_what_a_build_sees_and_nothing_else() {
    let files = [
        ("Dockerfile", "FROM scratch"),
        ("src/a", "1"),
        ("skip/b", "2"),
        (".dockerignore", "skip"),
    ];
    let (one, two) = (tree(&files), tree(&files));
    let before = digest(one.path());
    assert_eq!(before, digest(two.path()));
    fs::write(two.path().join("skip/c"), "unseen").expect("write");
    let file = File::options()
        .write(true)
        .open(two.path().join("src/a"))
        .expect("open");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .expect("touch");
    assert_eq!(
        before,
        digest(two.path()),
        "ignored files and times do not count"
    );

    let change = |change: &dyn Fn(&Path)| {
        let other = tree(&files);
        change(other.path());
        assert_ne!(before, digest(other.path()));
    };
    change(&|root| fs::write(root.join("src/a"), "2").expect("write"));
    change(&|root| fs::rename(root.join("src/a"), root.join("src/b")).expect("rename"));
    change(&|root| fs::write(root.join("Dockerfile"), "FROM scratch\n").expect("write"));
    change(&|root| {
        fs::set_permissions(root.join("src/a"), fs::Permissions::from_mode(0o755)).expect("chmod")
    });
    change(&|root| fs::create_dir(root.join("empty")).expect("mkdir"));
    change(&|root| {
        fs::remove_file(root.join("src/a")).expect("remove");
        symlink("1", root.join("src/a")).expect("link");
    });
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins() {
    let root = tree(&[
        ("app/Dockerfile", "FROM scratch"),
        ("app/Dockerfile.dockerignore", "*\n!keep"),
        (".dockerignore", "keep"),
        ("keep/a", ""),
        ("other", ""),
    ]);
    let dockerfile = Dockerfile::read(root.path(), Path::new("app/Dockerfile")).expect("readable");
    let context =
        BuildContext::scan(&dockerfile.root, dockerfile.ignore.as_deref()).expect("readable");
    assert_eq!(paths(&context), ["keep", "keep/a"]);
    assert_eq!(dockerfile.name, "Dockerfile");
}

#[test]
fn parents_of_what_is_taken_back_are_there_and_empty_ones_are_not() {
    let root = tree(&[
        ("Dockerfile", "FROM scratch"),
        (".dockerignore", "*\n!**/*.rs"),
        ("a/b/x.rs", ""),
        ("a/b/x.c", ""),
        ("a/c/y.c", ""),
        ("d/z.c", ""),
    ]);
    assert_eq!(
        paths(&scan(root.path()).expect("readable")),
        ["a", "a/b", "a/b/x.rs"]
    );
}

#[test]
fn links_are_recorded_and_strange_files_skipped() {
    let root = tree(&[("Dockerfile", "FROM scratch")]);
    symlink("/etc", root.path().join("out")).expect("link");
    symlink(".", root.path().join("loop")).expect("link");
    let _socket = UnixListener::bind(root.path().join("socket")).expect("bind");
    assert_eq!(
        paths(&scan(root.path()).expect("readable")),
        ["Dockerfile", "loop", "out"]
    );
}

#[test]
fn what_leads_outside_is_refused() {
    let root = tree(&[
        ("in/Dockerfile", "FROM scratch"),
        ("Dockerfile", "FROM scratch"),
    ]);
    let inside = root.path().join("in");
    symlink(root.path().join("Dockerfile"), inside.join("link")).expect("link");
    for dockerfile in ["../Dockerfile", "/etc/passwd", "link", ""] {
        let error = Dockerfile::read(&inside, Path::new(dockerfile)).expect_err(dockerfile);
        assert!(error.to_string().contains("outside the context"), "{error}");
    }
    let error = scan(&inside.join("..")).expect_err("dots");
    assert!(error.to_string().contains("\"..\""), "{error}");
    let error = Dockerfile::read(&inside, Path::new("None")).expect_err("absent");
    assert!(
        error.to_string().contains("no Dockerfile at None"),
        "{error}"
    );
    let error = scan(&root.path().join("absent")).expect_err("absent");
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn a_malformed_ignore_file_is_named() {
    let root = tree(&[("Dockerfile", "FROM scratch"), (".dockerignore", "ok\na[")]);
    let error = scan(root.path()).expect_err("malformed").to_string();
    assert!(error.contains(".dockerignore: line 2"), "{error}");
}

#[test]
fn the_archive_is_the_same_for_the_same_tree() {
    let long = "d/".repeat(80) + "file";
    let files = [
        ("Dockerfile", "FROM scratch"),
        ("a", "1"),
        (long.as_str(), "deep"),
    ];
    let (one, two) = (tree(&files), tree(&files));
    symlink("x".repeat(200), one.path().join("l")).expect("link");
    symlink("x".repeat(200), two.path().join("l")).expect("link");
    let write = |root: &Path, epoch| {
        let mut bytes = Vec::new();
        let context = scan(root).expect("readable");
        context.write_archive(epoch, &mut bytes).expect("written");
        bytes
    };
    let bytes = write(one.path(), 7);
    assert_eq!(bytes, write(two.path(), 7));
    assert_ne!(bytes, write(two.path(), 8));

    let mut archive = tar::Archive::new(&*bytes);
    let mut names = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        assert_eq!(
            (header.uid().ok(), header.gid().ok(), header.mtime().ok()),
            (Some(0), Some(0), Some(7))
        );
        names.push(entry.path().expect("a path").to_string_lossy().into_owned());
    }
    assert_eq!(names[0], "./");
    assert!(names.contains(&long), "long paths survive");
    assert_eq!(names.last().map(String::as_str), Some("l"));
}

#[test]
fn a_file_that_changes_size_is_noticed() {
    let root = tree(&[("Dockerfile", "FROM scratch"), ("a", "12345")]);
    let dockerfile = Dockerfile::read(root.path(), Path::new("Dockerfile")).expect("readable");
    let context = scan(root.path()).expect("readable");
    fs::write(root.path().join("a"), "123456").expect("write");
    assert!(
        context
            .facts(&dockerfile)
            .expect_err("changed")
            .to_string()
            .contains("changed")
    );
    assert!(context.write_archive(0, io::sink()).is_err());
}
