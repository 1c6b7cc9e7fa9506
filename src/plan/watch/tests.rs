//! Tables of choices: what is taken, and what is thought of each other tag.

use std::collections::BTreeMap;

use super::*;
use crate::base::{RunId, Source, Timestamp};
use crate::event::Chosen;
use crate::pipeline::{Watch, load};

/// A watch as it is written: `app web semver="*" { same-tag }`.
fn watch(text: &str) -> Watch {
    let file = format!("pipeline p {{ on {{ watch {text} }}\n run a {{ script \"true\" }} }}");
    let (project, diagnostics) = load(vec![Source::new("p.kdl", file)]);
    let found = project.pipelines["p"].watches().next().cloned();
    found.unwrap_or_else(|| panic!("{text}: {diagnostics:?}"))
}

fn run(number: u32) -> RunId {
    RunId::new(1_769_846_400_000 + u64::from(number), number)
}

fn chosen(tag: &str, digest: &str) -> Chosen {
    Chosen {
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        created: None,
    }
}

/// A registry in words, `app: v1@d1 v2@d2 …`. After the digest may stand `:` and a time of building,
/// and `/` and an architecture; `!` in place of it makes the tag unreadable, `?` gone.
#[derive(Default)]
struct World {
    tags: BTreeMap<String, Vec<String>>,
    readings: Readings,
    asked: Vec<Wanted>,
}

impl World {
    fn new(lines: &[&str]) -> Self {
        let mut world = Self::default();
        for line in lines {
            let (image, tags) = line.split_once(':').unwrap();
            let mut list = Vec::new();
            for entry in tags.split_whitespace() {
                let (tag, rest) = entry.split_once('@').unwrap_or((entry, "d"));
                list.push(tag.to_owned());
                let reading = match rest {
                    "!" => Reading::Unreadable("the registry failed".to_owned()),
                    "?" => Reading::Gone,
                    rest => {
                        let (rest, platform) = rest.split_once('/').unwrap_or((rest, "amd64"));
                        let (digest, created) = rest.split_once(':').unwrap_or((rest, "none"));
                        Reading::Found {
                            digest: digest.to_owned(),
                            facts: Some(Facts {
                                created: created.parse().ok().map(Timestamp),
                                platforms: vec![format!("linux/{platform}")],
                            }),
                        }
                    }
                };
                world
                    .readings
                    .insert((image.to_owned(), tag.to_owned()), reading);
            }
            world.tags.insert(image.to_owned(), list);
        }
        world
    }

    /// Chooses as a look would: reads only what is asked for.
    fn choose(&mut self, text: &str, past: &Past) -> Choice {
        let watch = watch(text);
        let images: Vec<&str> = watch.names().collect();
        let none = Vec::new();
        let tags = images
            .iter()
            .map(|image| self.tags.get(*image).unwrap_or(&none).as_slice());
        let group = Group {
            tags: tags.collect(),
            images: images.clone(),
        };
        let policy = Policy::of(&watch);
        let mut known = Readings::new();
        for _ in 0..1_000 {
            match choose(&policy, &group, &known, past) {
                Step::Done(choice) => return choice,
                Step::Read(wanted) => {
                    assert!(!wanted.is_empty());
                    for one in wanted {
                        let key = (one.image.clone(), one.tag.clone());
                        let reading = match self.readings.get(&key).cloned() {
                            Some(Reading::Found { digest, facts }) => Reading::Found {
                                digest,
                                facts: facts.filter(|_| one.facts),
                            },
                            Some(other) => other,
                            None => Reading::Gone,
                        };
                        known.insert(key, reading);
                        self.asked.push(one);
                    }
                }
            }
        }
        panic!("{text}: never ends");
    }
}

/// What is chosen, as `image:tag@digest …`; or `nothing`, `blocked`, with a part of the reason.
#[track_caller]
fn check(world: &[&str], text: &str, past: &Past, expected: &str) -> Choice {
    let choice = World::new(world).choose(text, past);
    match (&choice.chosen, expected.split_once(": ")) {
        (Ok(set), None) => {
            let set: Vec<String> = set
                .iter()
                .map(|(image, it)| format!("{image}:{}@{}", it.tag, it.digest))
                .collect();
            assert_eq!(set.join(" "), expected, "{text}");
        }
        (Err(Stop::Nothing(why)), Some(("nothing", part)))
        | (Err(Stop::Blocked(why)), Some(("blocked", part))) => {
            assert!(why.contains(part), "{text}: {why}");
        }
        (found, _) => panic!("{text}: {found:?}, expected {expected}"),
    }
    choice
}

#[test]
fn by_version() {
    let past = Past::default();
    for (tags, text, expected) in [
        (
            "app:1.0.0@a 1.2.0@b 1.10.0@c",
            "app semver=\"*\"",
            "app:1.10.0@c",
        ),
        ("app:v1.0.0@a 2.0.0@b", "app semver=\"^1\"", "app:v1.0.0@a"),
        (
            "app:1.0.0@a 2.0.0-rc.1@b",
            "app semver=\"*\"",
            "app:1.0.0@a",
        ),
        (
            "app:1.0.0@a 2.0.0-rc.1@b",
            "app semver=\">=1.0.0-0\"",
            "app:2.0.0-rc.1@b",
        ),
        (
            "app:2.0.0-rc.2@a 2.0.0-rc.10@b",
            "app semver=\">=2.0.0-0\"",
            "app:2.0.0-rc.10@b",
        ),
        // A date, a commit and a number of a build are no versions.
        (
            "app:1.0.0@a 20260131@b 1234567@c 42@d",
            "app semver=\"*\"",
            "app:1.0.0@a",
        ),
        (
            "app:1.0.0@a 20260131@b",
            "app semver=\"*\" { loose }",
            "app:20260131@b",
        ),
        (
            "app:1.2@a latest@b main@c",
            "app semver=\"*\"",
            "nothing: no tag of app fits",
        ),
        ("app:1.2@a 1@b", "app semver=\"*\" { loose }", "app:1.2@a"),
        ("app:1.0.0@a v1.0.0@b", "app semver=\"*\"", "app:v1.0.0@b"),
        (
            "app:1.0.0@a 1.1.0@b 1.2.0@c",
            "app semver=\"*\" { ignore \"1.2.*\" }",
            "app:1.1.0@b",
        ),
        (
            "app:1.0.0@a 1.1.0-alpine@b",
            "app semver=\">=0-0\" { allow #\"[\\d.]+\"# }",
            "app:1.0.0@a",
        ),
        // An expression fits the whole tag or not at all.
        (
            "app:1.0.0@a 11.0.0@b",
            "app semver=\"*\" { allow #\"1\\.\\d\\.\\d\"# }",
            "app:1.0.0@a",
        ),
        ("app:", "app semver=\"*\"", "nothing: no tag of app fits"),
        // Fails closed: what cannot be read lets nothing older win.
        (
            "app:1.0.0@a 1.1.0@!",
            "app semver=\"*\"",
            "blocked: 1.1.0 cannot be read",
        ),
        (
            "app:1.0.0@a 1.1.0@?",
            "app semver=\"*\"",
            "blocked: no manifest under it",
        ),
        ("app:1.0.0@! 1.1.0@b", "app semver=\"*\"", "app:1.1.0@b"),
        (
            "app:1.0.0@a 1.1.0@!",
            "app semver=\"*\" { ignore \"1.1.0\" }",
            "app:1.0.0@a",
        ),
        // Platforms.
        (
            "app:1.0.0@a/arm64 1.1.0@b/amd64",
            "app semver=\"*\" { platform \"linux/arm64\" }",
            "app:1.0.0@a",
        ),
        (
            "app:1.0.0@a/arm64/v8",
            "app semver=\"*\" { platform \"linux/aarch64\" }",
            "app:1.0.0@a",
        ),
        (
            "app:1.0.0@a/arm/v6",
            "app semver=\"*\" { platform \"linux/arm/v7\" }",
            "nothing: has no linux/arm/v7; it has linux/arm/v6",
        ),
        (
            "app:1.0.0@a/arm64 1.1.0@!",
            "app semver=\"*\" { platform \"linux/arm64\" }",
            "blocked: 1.1.0 cannot be read",
        ),
    ] {
        check(&[tags], text, &past, expected);
    }
}

#[test]
fn by_build_by_text_and_by_digest() {
    let past = Past::default();
    for (tags, text, expected) in [
        (
            "app:a@1:100 b@2:300 c@3:200",
            "app strategy=newest-build",
            "app:b@2",
        ),
        (
            "app:a@1:100 b@2:100",
            "app strategy=newest-build",
            "app:b@2",
        ),
        (
            "app:a@1:100 b@2",
            "app strategy=newest-build",
            "blocked: b does not say when it was built",
        ),
        (
            "app:a@1:100 b@!",
            "app strategy=newest-build",
            "blocked: b cannot be read",
        ),
        (
            "app:a@1:100 b@!",
            "app strategy=newest-build { ignore b }",
            "app:a@1",
        ),
        (
            "app:a@1:100/arm64 b@2:200",
            "app strategy=newest-build { platform \"linux/arm64\" }",
            "app:a@1",
        ),
        (
            "app:2026-01-30@1 2026-01-31@2 latest@3",
            "app strategy=alphabetical { ignore latest }",
            "app:2026-01-31@2",
        ),
        ("app:a@1 B@2", "app strategy=alphabetical", "app:a@1"),
        (
            "app:latest@7 v9@8",
            "app strategy=digest tag=latest",
            "app:latest@7",
        ),
        (
            "app:v9@8",
            "app strategy=digest tag=latest",
            "blocked: no manifest under it",
        ),
        (
            "app:latest@!",
            "app strategy=digest tag=latest",
            "blocked: latest cannot be read",
        ),
    ] {
        check(&[tags], text, &past, expected);
    }
}

#[test]
fn a_set_is_whole_or_waits() {
    let past = Past::default();
    let text = "app web semver=\"*\" { same-tag }";
    let choice = check(
        &["app:1.0.0@a1 1.1.0@a2", "web:1.0.0@w1"],
        text,
        &past,
        "app:1.0.0@a1 web:1.0.0@w1",
    );
    assert_eq!(
        choice.rows[0].verdict,
        Verdict::Waits(vec!["web".to_owned()])
    );
    check(
        &["app:1.1.0@a2", "web:1.0.0@w1"],
        text,
        &past,
        "nothing: not there yet for",
    );
    check(
        &["app:1.0.0@a1 1.1.0@a2", "web:1.0.0@w1 1.1.0@!"],
        text,
        &past,
        "blocked: image web: 1.1.0 cannot be read",
    );
    check(
        &["app:x@a1:100 y@a2:300", "web:x@w1:400 y@w2:200"],
        "app web strategy=newest-build { same-tag }",
        &past,
        "app:x@a1 web:x@w1",
    );
}

#[test]
fn only_what_matters_is_read() {
    let tags: Vec<String> = (0..5_000).map(|n| format!("1.0.{n}@d")).collect();
    let line = format!("app:{}", tags.join(" "));
    let mut world = World::new(&[&line]);
    let choice = world.choose("app semver=\"*\"", &Past::default());
    assert_eq!(choice.rows[0].tag, "1.0.4999");
    assert_eq!(choice.rows.len(), 5_000);
    assert_eq!(world.asked.len(), 1, "one digest");
    assert!(!world.asked[0].facts);
    let mut world = World::new(&[&line]);
    let choice = world.choose(
        "app semver=\"*\" { platform \"linux/s390x\" }",
        &Past::default(),
    );
    assert_eq!(world.asked.len(), MOST_READ);
    assert!(
        matches!(choice.chosen, Err(Stop::Blocked(_))),
        "{:?}",
        choice.chosen
    );
    let mut world = World::new(&[&line]);
    let choice = world.choose("app strategy=newest-build", &Past::default());
    assert_eq!(world.asked.len(), 0, "too many to compare");
    assert!(matches!(choice.chosen, Err(Stop::Blocked(_))));
}

#[test]
fn never_down_and_never_what_was_rolled_back() {
    let past = |tag: &str, held: &[(&str, &str)]| Past {
        current: BTreeMap::from([(
            "app".to_owned(),
            Chosen {
                created: Some(Timestamp(200)),
                ..chosen(tag, "x")
            },
        )]),
        held: held
            .iter()
            .map(|(tag, digest)| {
                (
                    "app".to_owned(),
                    (*tag).to_owned(),
                    (*digest).to_owned(),
                    run(9),
                )
            })
            .collect(),
    };
    for (tags, text, past, expected) in [
        (
            "app:1.0.0@a",
            "app semver=\"*\"",
            past("1.1.0", &[]),
            "nothing: older than 1.1.0",
        ),
        (
            "app:1.1.0@new",
            "app semver=\"*\"",
            past("1.1.0", &[]),
            "app:1.1.0@new",
        ),
        (
            "app:1.0.0@a 1.1.0@b",
            "app semver=\"*\"",
            past("1.0.0", &[("1.1.0", "b")]),
            "app:1.0.0@a",
        ),
        // Pushed anew under the same tag, it is something newer.
        (
            "app:1.0.0@a 1.1.0@c",
            "app semver=\"*\"",
            past("1.0.0", &[("1.1.0", "b")]),
            "app:1.1.0@c",
        ),
        (
            "app:1.1.0@b 1.2.0@c",
            "app semver=\"*\"",
            past("1.0.0", &[("1.1.0", "b")]),
            "app:1.2.0@c",
        ),
        (
            "app:latest@b",
            "app strategy=digest tag=latest",
            past("latest", &[("latest", "b")]),
            "nothing: rolled back by run",
        ),
        (
            "app:latest@c",
            "app strategy=digest tag=latest",
            past("latest", &[("latest", "b")]),
            "app:latest@c",
        ),
        (
            "app:b@1:100",
            "app strategy=newest-build",
            past("c", &[]),
            "nothing: older than c",
        ),
        (
            "app:b@1:300",
            "app strategy=newest-build",
            past("c", &[]),
            "app:b@1",
        ),
        (
            "app:b@1",
            "app strategy=alphabetical",
            past("c", &[]),
            "nothing: older than c",
        ),
        // What was delivered was no version: nothing can be said of it.
        (
            "app:1.0.0@a",
            "app semver=\"*\"",
            past("main", &[]),
            "app:1.0.0@a",
        ),
    ] {
        check(&[tags], text, &past, expected);
    }
}

#[test]
fn memory_holds_what_was_taken_back() {
    let set = |app: &str, web: &str| {
        BTreeMap::from([
            ("app".to_owned(), chosen(app, app)),
            ("web".to_owned(), chosen(web, web)),
        ])
    };
    let mut memory = Memory::default();
    memory.start(run(1), Timestamp(10), set("1", "1"));
    memory.start(run(2), Timestamp(20), set("2", "1"));
    assert_eq!(memory.started(&set("2", "1")), Some(&run(2)));
    assert_eq!(memory.started(&set("2", "2")), None);
    let back = |at, to| WentBack {
        run: run(3),
        at: Timestamp(at),
        way: Way::To(run(to)),
    };
    assert!(
        !memory.clone().learn(vec![back(30, 7)]),
        "of another pipeline"
    );
    assert!(memory.learn(vec![back(30, 1)]));
    assert_eq!(memory.current, set("1", "1"));
    let held: Vec<(&str, &str)> = memory
        .held
        .iter()
        .map(|it| (it.image.as_str(), it.tag.as_str()))
        .collect();
    assert_eq!(held, [("app", "2")], "web did not change");
    assert!(!memory.learn(vec![back(30, 1)]), "known already");
    memory.start(run(4), Timestamp(40), set("3", "1"));
    assert_eq!(memory.current, set("3", "1"));
    assert_eq!(memory.held.len(), 1);
    let kept = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&kept).unwrap(), memory);
}

#[test]
fn what_was_written_is_taken_back_alone() {
    let set = |app: &str, web: &str| {
        BTreeMap::from([
            ("app".to_owned(), chosen(app, app)),
            ("web".to_owned(), chosen(web, web)),
        ])
    };
    let mut memory = Memory::default();
    memory.start(run(1), Timestamp(10), set("1", "1"));
    memory.start(run(2), Timestamp(20), set("2", "1"));
    memory.start(run(3), Timestamp(30), set("3", "1"));
    let back = |at, by, from| WentBack {
        run: run(by),
        at: Timestamp(at),
        way: Way::From(run(from)),
    };
    let held = |memory: &Memory| -> Vec<String> {
        let held = memory.held.iter();
        held.map(|it| format!("{}:{}", it.image, it.tag)).collect()
    };
    // Something in the middle: what came after it stays.
    let mut middle = memory.clone();
    assert!(middle.learn(vec![back(40, 4, 2)]));
    assert_eq!(middle.current, set("3", "1"));
    assert_eq!(held(&middle), ["app:2"]);
    // One after the other, also in one look and of one moment.
    assert!(memory.learn(vec![back(40, 4, 3), back(40, 5, 2)]));
    assert_eq!(memory.current, set("1", "1"));
    assert_eq!(held(&memory), ["app:3", "app:2"]);
    memory.start(run(6), Timestamp(50), set("4", "2"));
    assert!(memory.learn(vec![back(60, 7, 6)]));
    assert_eq!(
        memory.current,
        set("1", "1"),
        "not what was taken back before"
    );
    assert_eq!(held(&memory), ["app:3", "app:2", "app:4", "web:2"]);
    // The first of all: nothing is known to be there.
    assert!(memory.learn(vec![back(70, 8, 1)]));
    assert!(memory.current.is_empty(), "{:?}", memory.current);
    assert!(!memory.learn(vec![back(80, 9, 77)]), "of another watch");
}

#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    for n in 0..2_000 {
        let set = BTreeMap::from([("app".to_owned(), chosen("t", &n.to_string()))]);
        memory.start(run(n), Timestamp(i64::from(n)), set);
    }
    assert!(memory.sets.len() <= 500);
    let newest = BTreeMap::from([("app".to_owned(), chosen("t", "1999"))]);
    assert_eq!(memory.started(&newest), Some(&run(1999)));
}
