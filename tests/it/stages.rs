//! `run` for real: containers, services, secrets, caches, files handed from stage to stage, and
//! what is left when somebody says stop.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use crate::support::delivery::{Answer, Delivery, Started, docker, wait_for};

const SECRET: &str = "correct horse battery staple";

#[track_caller]
fn log(delivery: &Delivery, stage: &str) -> String {
    delivery.pipewright(&["logs", "last", stage]).expect(0).out
}

/// Processes on this host whose command line holds a text.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let name = entry.file_name().to_string_lossy().into_owned();
        if line.contains(text) && name.bytes().all(|b| b.is_ascii_digit()) {
            found.push(format!("{name} {line}"));
        }
    }
    found
}

fn labelled(delivery: &Delivery) -> String {
    let shown = delivery.show();
    let run = shown["run"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let filter = format!("label=dev.pipewright.run={run}");
    [
        docker(&["ps", "-aq", "--filter", &filter]),
        docker(&["network", "ls", "-q", "--filter", &filter]),
        docker(&["volume", "ls", "-q", "--filter", &filter]),
    ]
    .concat()
}

#[test]
fn a_container_sees_the_commit_its_environment_and_its_service() {
    let mut delivery = Delivery::start("container");
    delivery.set("TEST_SECRET", SECRET);
    delivery.pipeline(
        r##"
secret WORD env=TEST_SECRET
pipeline test {
    run prices {
        container "pipewright-test-base:latest"
        service db image="pipewright-test-base:latest" {
            env GREETING "from ${secret.WORD}"
            command "/bin/sh" "-c" "busybox mkdir /site; echo \"hello $GREETING\" > /site/index.html; exec busybox httpd -f -p 8000 -h /site"
            ready "busybox wget -q -O /dev/null http://127.0.0.1:8000/"
            timeout "20s"
        }
        env BRANCH "${git.branch}"
        env URL "http://bot:${secret.WORD}@db:8000/"
        script #"""
            sh app/prices.sh app/prices.csv | busybox tee sum.txt
            echo "on ${BRANCH:-nothing} with $URL"
            busybox wget -q -O - http://db:8000/
            echo not in the commit > new-file
            """#
        output sum from="sum.txt" match=#"sum: (\d+)"#
    }
    run tell {
        container "pipewright-test-base:latest" network=none
        env SUM "${run.prices.sum}"
        command "/bin/sh" "-c" "echo \"the sum is $SUM\"; test ! -e new-file; test -e app/prices.csv"
    }
}
"##,
    );
    let answer = delivery.pipewright(&["run", "test"]).expect(0);
    let first = log(&delivery, "run.prices");
    assert!(first.contains("sum: 360"), "{first}");
    assert!(first.contains("on main with http://bot:***@db"), "{first}");
    assert!(
        first.contains("hello from ***"),
        "the service has its own: {first}"
    );
    assert!(log(&delivery, "run.tell").contains("the sum is 360"));
    for text in [answer.text(), first, delivery.show().to_string()] {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert_eq!(labelled(&delivery), "");
}

#[test]
fn a_service_that_never_gets_ready_fails_its_stage() {
    let delivery = Delivery::start("not-ready");
    delivery.pipeline(
        r#"
pipeline test {
    run wait {
        container "pipewright-test-base:latest"
        service db image="pipewright-test-base:latest" {
            command "/bin/sh" "-c" "echo still thinking; exec busybox sleep 600"
            ready "test -e /never"
            timeout "1s"
        }
        script "echo unreachable"
    }
    run gone {
        container "pipewright-test-base:latest"
        service db image="pipewright-test-base:latest" {
            command "/bin/sh" "-c" "echo giving up; exit 3"
            ready "true"
        }
        script "busybox wget -q http://db:1/"
        timeout "30s"
    }
}
"#,
    );
    let answer = delivery.pipewright(&["run", "test"]).expect(1);
    answer
        .says("service db was not ready within 1.0s")
        .says("still thinking");
    answer.says("service db stopped before it was ready");
    assert!(!answer.out.contains("unreachable"));
    assert_eq!(labelled(&delivery), "");
}

#[test]
fn caches_stay_and_files_go_only_where_they_are_asked_for() {
    let delivery = Delivery::start("files");
    delivery.source.write(&[(
        "build/web/Dockerfile",
        "FROM pipewright-test-base:latest\nCOPY dist/ /dist/\nCMD [\"/bin/sh\"]\n",
    )]);
    delivery.pipeline(
        r#"
pipeline test {
    run make {
        container "pipewright-test-base:latest"
        cache "/cache"
        script """
            echo x >> /cache/runs
            busybox mkdir -p dist/deep
            busybox wc -l < /cache/runs > dist/deep/runs
            echo left behind > scrap
            """
        produces "dist"
    }
    run host {
        uses run.make
        cache "kept"
        script "echo y >> kept/runs; echo container $(cat dist/deep/runs) host $(wc -l < kept/runs); test ! -e scrap"
    }
    run without { script "test ! -e dist; test ! -e kept; echo nothing here" }
    build web {
        uses run.make
        dockerfile "build/web/Dockerfile"
    }
    push web
}
"#,
    );
    for round in 1..=3 {
        delivery.pipewright(&["run", "test"]).expect(0);
        let told = log(&delivery, "run.host");
        assert!(
            told.contains(&format!("container {round} host {round}")),
            "{told}"
        );
        assert!(log(&delivery, "run.without").contains("nothing here"));
    }
    // What the image holds came from the stage, not from the commit.
    let sha = delivery.source.git(&["rev-parse", "HEAD"]);
    let image = format!("{}/web-repo:{sha}", delivery.host());
    let held = docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        &image,
        "/bin/busybox",
        "cat",
        "/dist/deep/runs",
    ]);
    assert_eq!(held, "3");
    let root = delivery.source.git(&["status", "--porcelain"]);
    assert_eq!(root, "", "the checkout was not touched");
}

/// Starts a run, waits until its log says a text, and returns it.
fn running(delivery: &Delivery, pipeline: &str, text: &str) -> Started {
    let started = delivery.begin(&["run", pipeline]);
    wait_for(text, || started.out().contains(text).then_some(()));
    started
}

#[test]
fn cancelling_stops_containers_that_do_not_listen() {
    let delivery = Delivery::start("stop-container");
    delivery.pipeline(
        r#"
pipeline test {
    run stubborn {
        container "pipewright-test-base:latest"
        service db image="pipewright-test-base:latest" { command "/bin/busybox" "sleep" "600" }
        grace "1s"
        script """
            trap '' TERM INT
            echo deaf
            while :; do busybox sleep 1; done
            """
    }
    run never { needs run.stubborn; script "echo never" }
    run last { finally; script "echo cleaned up" }
}
"#,
    );
    let started = running(&delivery, "test", "deaf");
    started.signal("INT");
    let answer = started.finish().expect(130);
    answer.says("cleaned up");
    assert!(!answer.out.contains("[run.never] never"), "{}", answer.out);
    assert_eq!(labelled(&delivery), "");
    assert_cancelled(&delivery, &answer, "SIGINT");

    // The same by another process.
    let started = running(&delivery, "test", "deaf");
    delivery.pipewright(&["cancel", "last"]).expect(0);
    let answer = started.finish().expect(130);
    answer.says("cleaned up");
    assert_eq!(labelled(&delivery), "");
}

fn assert_cancelled(delivery: &Delivery, answer: &Answer, by: &str) {
    answer.says(by);
    let shown = delivery.show();
    assert_eq!(shown["outcome"], "cancelled", "{shown}");
    let stage = |id: &str| {
        let stages = shown["stages"].as_array().expect("stages");
        let found = stages.iter().find(|stage| stage["id"] == id);
        found.expect("the stage")["outcome"].clone()
    };
    assert_eq!(stage("run.stubborn"), "cancelled");
    assert_eq!(stage("run.never"), "cancelled");
    assert_eq!(stage("run.last"), "succeeded");
}

#[test]
fn cancelling_ends_children_and_grandchildren_that_do_not_listen() {
    let delivery = Delivery::start("stop-host");
    let mark = format!("mark-{}", delivery.name);
    delivery.pipeline(&format!(
        r#"
pipeline test {{
    run stubborn {{
        grace "500ms"
        script """
            deaf='trap "" TERM INT HUP; while :; do sleep 1; done'
            sh -c "$deaf" {mark}-child &
            setsid sh -c "$deaf" {mark}-session &
            sh -c "setsid nohup sh -c '$deaf' {mark}-orphan >/dev/null 2>&1 & exit 0"
            (trap '' TERM; sh -c "sh -c '$deaf' {mark}-grandchild; true" {mark}-parent; true) &
            trap '' TERM
            echo all deaf
            wait
            while :; do sleep 1; done
            """
    }}
    run never {{ needs run.stubborn; script "echo never" }}
    run last {{ finally; script "echo cleaned up" }}
}}
"#
    ));
    let started = running(&delivery, "test", "all deaf");
    wait_for("the children", || {
        (processes(&mark).len() >= 5).then_some(())
    });
    started.signal("TERM");
    let answer = started.finish().expect(130);
    assert_eq!(processes(&mark), Vec::<String>::new());
    assert_cancelled(&delivery, &answer, "SIGTERM");

    // Killed outright, nobody is there to end them: whoever goes on with the run does.
    let mut started = running(&delivery, "test", "all deaf");
    wait_for("the children", || {
        (processes(&mark).len() >= 5).then_some(())
    });
    started.kill();
    drop(started);
    let resumed = delivery.begin(&["run", "--resume", "last"]);
    wait_for("the interrupted stage", || {
        resumed.out().contains("all deaf").then_some(())
    });
    resumed.signal("TERM");
    resumed.finish().expect(130);
    assert_eq!(processes(&mark), Vec::<String>::new());
}
