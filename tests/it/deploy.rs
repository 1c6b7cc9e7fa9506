//! `deploy docker` for real: a page served from a container, replaced, and kept when the new
//! version is no good.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::net::TcpListener;

use crate::support::delivery::{Delivery, docker, fetch, free_port, wait_for};
use crate::support::second_engine::SecondEngine;

fn pipeline(delivery: &Delivery) -> String {
    format!(
        r#"
var port env=TEST_PORT
pipeline ship {{
    build web migration {{ dockerfile "build/${{name}}/Dockerfile" }}
    push web migration
    deploy shop {{
        docker {{
            before migrate image=migration {{ timeout "1m" }}
            container {} image=web publish="127.0.0.1:${{var.port}}:8080" {{
                env REVISION "${{git.short-sha}}"
                healthy-within "20s"
            }}
        }}
    }}
}}
"#,
        delivery.name
    )
}

/// A shop that is to be deployed to a port of its own.
fn start(test: &str) -> (Delivery, u16) {
    let mut delivery = Delivery::start(test);
    let port = free_port();
    delivery.set("TEST_PORT", &port.to_string());
    delivery.pipeline(&pipeline(&delivery));
    (delivery, port)
}

/// Containers of the test, whatever their state: names, sorted.
fn containers(delivery: &Delivery) -> Vec<String> {
    let filter = format!("name={}", delivery.name);
    let listed = docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]);
    let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn inspect(name: &str, what: &str) -> String {
    docker(&["inspect", "--format", what, name])
}

fn short(sha: &str) -> &str {
    &sha[..7]
}

/// How often the migration was applied in the last run.
fn migrations(delivery: &Delivery) -> usize {
    let log = delivery.pipewright(&["logs", "last", "deploy.shop"]);
    log.out.matches("applying 0001-fruit.sql").count()
}

/// Everything a run labels is gone.
fn assert_tidy(delivery: &Delivery) {
    let shown = delivery.show();
    let run = shown["run"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let filter = format!("label=dev.pipewright.run={run}");
    for list in [
        &["ps", "-aq", "--filter", &filter][..],
        &["network", "ls", "-q", "--filter", &filter],
        &["volume", "ls", "-q", "--filter", &filter],
    ] {
        assert_eq!(docker(list), "", "{list:?}");
    }
    let work = delivery.state().join("work");
    let left = std::fs::read_dir(work).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "working directories");
}

#[test]
fn a_page_is_deployed_kept_and_replaced() {
    let (delivery, port) = start("page");
    let first = delivery.source.git(&["rev-parse", "HEAD"]);
    delivery.pipewright(&["run", "ship"]).expect(0);
    let page = fetch(port).expect("the page is served");
    assert!(page.contains("いらっしゃいませ"), "{page}");
    assert!(
        page.contains(&format!("Revision {}", short(&first))),
        "{page}"
    );
    assert_eq!(migrations(&delivery), 1);
    assert_eq!(containers(&delivery), std::slice::from_ref(&delivery.name));
    let id = inspect(&delivery.name, "{{.Id}}");
    let image = inspect(&delivery.name, "{{.Config.Image}}");
    let digest = delivery.digest("web-repo", &first).expect("pushed");
    assert!(image.ends_with(&format!("@{digest}")), "by digest: {image}");
    let shown = delivery.show().to_string();
    assert!(
        shown.contains(&format!("http://127.0.0.1:{port}")),
        "{shown}"
    );

    let again = delivery.pipewright(&["run", "ship"]).expect(0);
    again.says("deploy.shop");
    assert_eq!(
        inspect(&delivery.name, "{{.Id}}"),
        id,
        "the container was left alone"
    );
    assert_eq!(migrations(&delivery), 0);
    let plan = delivery.pipewright(&["plan", "ship"]).expect(0);
    assert!(!plan.out.contains("replace container"), "{}", plan.out);

    let second = delivery.source.commit(
        "greet",
        &[("web/site/index.html", "<p>hello from @REVISION@</p>\n")],
    );
    let plan = delivery.pipewright(&["plan", "ship"]).expect(0);
    plan.says(&format!("replace container {}", delivery.name));
    delivery.pipewright(&["run", "ship"]).expect(0);
    let page = fetch(port).expect("the page is served");
    assert!(
        page.contains(&format!("hello from {}", short(&second))),
        "{page}"
    );
    assert_ne!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_eq!(migrations(&delivery), 1);
    assert_eq!(
        containers(&delivery),
        std::slice::from_ref(&delivery.name),
        "the old one is gone"
    );
    assert_tidy(&delivery);
}

#[test]
fn an_unhealthy_version_never_takes_over() {
    let (delivery, port) = start("unhealthy");
    let first = delivery.source.git(&["rev-parse", "HEAD"]);
    delivery.pipewright(&["run", "ship"]).expect(0);
    let id = inspect(&delivery.name, "{{.Id}}");
    // Listens on another port than the one its health is asked at.
    delivery.source.commit(
        "deaf",
        &[(
            "web/serve.sh",
            "#!/bin/sh\necho deaf on purpose\nexec busybox httpd -f -p 9999 -h /web\n",
        )],
    );
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    answer
        .says("is unhealthy; what ran before keeps running")
        .says("deaf on purpose");
    let page = fetch(port).expect("the old page is served");
    assert!(
        page.contains(&format!("Revision {}", short(&first))),
        "{page}"
    );
    assert_eq!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_eq!(containers(&delivery), std::slice::from_ref(&delivery.name));
    // A version that dies at once is told apart from one that is unhealthy.
    delivery.source.commit(
        "dead",
        &[("web/serve.sh", "echo dead on purpose\nexit 7\n")],
    );
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    answer.says("exited with status 7").says("dead on purpose");
    assert_eq!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_tidy(&delivery);
}

#[test]
fn a_version_that_cannot_take_the_place_is_rolled_back() {
    let (mut delivery, port) = start("rollback");
    let first = delivery.source.git(&["rev-parse", "HEAD"]);
    delivery.pipewright(&["run", "ship"]).expect(0);
    let id = inspect(&delivery.name, "{{.Id}}");
    // Healthy when tried, but the port it is to be published on belongs to somebody else.
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let other = taken.local_addr().expect("an address").port();
    delivery.set("TEST_PORT", &other.to_string());
    delivery
        .source
        .commit("second", &[("web/site/index.html", "second\n")]);
    let answer = delivery.pipewright(&["run", "ship"]);
    assert_ne!(answer.status.code(), Some(0), "{answer:?}");
    answer
        .says("rolled back to what ran before")
        .says(&other.to_string());
    let page = wait_for("the old page", || fetch(port));
    assert!(
        page.contains(&format!("Revision {}", short(&first))),
        "{page}"
    );
    assert_eq!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_eq!(inspect(&delivery.name, "{{.State.Running}}"), "true");
    assert_eq!(containers(&delivery), std::slice::from_ref(&delivery.name));

    // With a port of its own it goes through; the migration of that run was applied already.
    drop(taken);
    delivery
        .pipewright(&["rerun", "last", "--failed"])
        .expect(0);
    let page = fetch(other).expect("the new page");
    assert!(page.contains("second"), "{page}");
    assert_eq!(migrations(&delivery), 1, "once, over both attempts");
    assert_eq!(fetch(port), None);
    assert_tidy(&delivery);
}

#[test]
fn a_failing_migration_stops_the_deployment() {
    let (delivery, port) = start("before");
    delivery.pipewright(&["run", "ship"]).expect(0);
    let id = inspect(&delivery.name, "{{.Id}}");
    delivery.source.commit(
        "bad migration",
        &[(
            "migration/steps/0003-bad.sql",
            "ALTER TABLE without an end\n",
        )],
    );
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    answer
        .says("applying 0003-bad.sql")
        .says("migrate exited with status 1; the old version keeps running");
    assert!(fetch(port).is_some());
    assert_eq!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_eq!(migrations(&delivery), 1);
    assert_tidy(&delivery);
}

#[test]
fn a_container_of_somebody_else_is_left_alone() {
    let (delivery, _port) = start("foreign");
    docker(&[
        "run",
        "-d",
        "--name",
        &delivery.name,
        "--network",
        "none",
        "pipewright-test-base:latest",
        "/bin/busybox",
        "sleep",
        "600",
    ]);
    let id = inspect(&delivery.name, "{{.Id}}");
    let plan = delivery.pipewright(&["plan", "ship", "--offline"]);
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    answer.says("was not made by a deployment");
    assert_eq!(inspect(&delivery.name, "{{.Id}}"), id);
    assert_eq!(inspect(&delivery.name, "{{.State.Running}}"), "true");
}

#[test]
fn a_retried_deployment_migrates_once() {
    let (delivery, _port) = start("retry");
    let text = pipeline(&delivery).replace(
        "    deploy shop {",
        "    deploy shop {\n        retry 3 { on failed; backoff \"50ms\" }",
    );
    delivery
        .source
        .write(&[("web/serve.sh", "echo dead on purpose\nexit 7\n")]);
    delivery.pipeline(&text);
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    assert_eq!(
        answer.out.matches("dead on purpose").count(),
        3,
        "{}",
        answer.out
    );
    assert_eq!(migrations(&delivery), 1);
    assert_eq!(containers(&delivery), [""; 0]);
    assert_tidy(&delivery);
}

#[test]
fn a_container_joins_the_network_it_is_told() {
    let delivery = Delivery::start("networks");
    let network = format!("{}-net", delivery.name);
    let deployed = |network: &str| {
        delivery.pipeline(&format!(
            r#"
pipeline ship {{
    build app {{ dockerfile "build/app/Dockerfile.prod" }}
    push app
    deploy shop {{
        docker {{
            before look image=app {{ command "/bin/sh" "-c" "busybox ip link" }}
            container {} image=app network={network} {{
                command "/bin/sh" "-c" "trap 'exit 0' TERM; busybox sleep 600 & wait"
                ready "true"
            }}
        }}
    }}
}}
"#,
            delivery.name
        ));
        delivery.pipewright(&["run", "ship"]).expect(0);
        inspect(&delivery.name, "{{json .NetworkSettings.Networks}}")
    };
    assert!(deployed("none").starts_with("{\"none\":"));
    assert!(
        !log(&delivery).contains("eth0"),
        "the task before it is in the same network"
    );
    assert!(deployed("host").starts_with("{\"host\":"));
    assert!(deployed("bridge").starts_with("{\"bridge\":"));
    docker(&["network", "create", &network]);
    let joined = deployed(&network);
    delivery_network_gone(&delivery, &network);
    assert!(joined.starts_with(&format!("{{\"{network}\":")), "{joined}");
    assert!(
        joined.contains(&format!("\"{}\"", delivery.name)),
        "by its name: {joined}"
    );
}

/// Built and pushed from here, run over there; nothing of the deployment happens here.
#[test]
fn a_declared_engine_is_deployed_to() {
    let delivery = Delivery::start("declared");
    let mut far = SecondEngine::start();
    far.reach(delivery.front.address().port());
    let door = far.over_tcp();
    let text = |engine: &str| {
        format!(
            r#"
engine far "tcp://{engine}"
pipeline ship {{
    build app migration {{ dockerfile "build/${{name}}/Dockerfile" }}
    push app migration
    deploy shop {{
        docker engine=far {{
            before migrate image=migration {{ timeout "1m" }}
            container {} image=app network=none {{
                command "/bin/sh" "-c" "trap 'exit 0' TERM; busybox sleep 600 & wait"
                env REVISION "${{git.short-sha}}"
                ready "true"
            }}
        }}
    }}
}}
"#,
            delivery.name
        )
    };
    delivery.source.write(&[(
        "build/app/Dockerfile",
        "FROM pipewright-test-base:latest\nCOPY app/ /app/\n",
    )]);
    delivery.pipeline(&text(&door));
    let plan = delivery.pipewright(&["plan", "ship"]).expect(0);
    plan.says(&format!("container {} on engine far", delivery.name));
    let names = |far: &SecondEngine| far.docker(&["ps", "-a", "--format", "{{.Names}}"]);
    delivery.pipewright(&["run", "ship"]).expect(0);
    assert_eq!(migrations(&delivery), 1);
    assert_eq!(names(&far), delivery.name);
    assert_eq!(containers(&delivery), [""; 0], "nothing runs here");
    let look = |what: &str| far.docker(&["inspect", "--format", what, &delivery.name]);
    let id = look("{{.Id}}");
    assert!(look("{{.Config.Image}}").contains("app-repo@sha256:"));

    let again = delivery.pipewright(&["run", "ship"]).expect(0);
    again.says("up-to-date");
    assert_eq!(look("{{.Id}}"), id);
    delivery.source.commit("second", &[("app/more", "more\n")]);
    delivery.pipewright(&["run", "ship"]).expect(0);
    assert_ne!(look("{{.Id}}"), id);
    assert_eq!(names(&far), delivery.name);

    // Killed while its migration runs there: what is left there is found again, there.
    delivery.source.commit(
        "slow migration",
        &[(
            "migration/migrate.sh",
            "echo migrating slowly\ntrap 'exit 9' TERM\nbusybox sleep 600 & wait\n",
        )],
    );
    let mut started = delivery.begin(&["run", "ship"]);
    wait_for("the migration", || {
        started.out().contains("migrating slowly").then_some(())
    });
    started.kill();
    assert!(names(&far).contains("before-migrate"), "{}", names(&far));
    drop(started);
    let resumed = delivery.begin(&["run", "--resume", "last"]);
    wait_for("the migration", || {
        resumed.out().contains("migrating slowly").then_some(())
    });
    resumed.signal("TERM");
    resumed.finish().expect(130);
    assert_eq!(names(&far), delivery.name, "nothing is left over there");
    assert_eq!(containers(&delivery), [""; 0]);

    // Nobody answers at the address: the engine is named, not the local one.
    delivery.pipeline(&text("127.0.0.1:1"));
    let answer = delivery.pipewright(&["run", "ship"]).expect(1);
    answer
        .says("no container engine answers at tcp://127.0.0.1:1")
        .says("correct the address of engine `far`");
}

fn log(delivery: &Delivery) -> String {
    delivery.pipewright(&["logs", "last", "deploy.shop"]).out
}

/// Removes a network with what is in it, whether or not the test goes on.
fn delivery_network_gone(delivery: &Delivery, network: &str) {
    docker(&["rm", "-fv", &delivery.name]);
    docker(&["network", "rm", network]);
}
