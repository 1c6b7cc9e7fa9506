//! Killed at a random moment and resumed, a hundred times: every effect happens once, and nothing
//! is left behind.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::delivery::{BASE, Delivery, docker};
use crate::support::repo;

/// Versions delivered in each of the lanes, which run at the same time.
const LANES: [u64; 3] = [34, 33, 33];

fn pipeline(name: &str) -> String {
    format!(
        r##"
pipeline ship {{
    run host {{
        script #"""
            sh -c 'sleep 0.15; true' {name}-child & setsid sh -c 'sleep 0.2; true' {name}-session &
            wait
            """#
    }}
    build app {{ dockerfile "build/tiny" }}
    push app
    bump main repo=manifests {{
        file "main/values.yaml" {{ set ".front.imageTag" "${{image.app.tag}}" }}
        commit "Release ${{git.sha}}"
    }}
    deploy shop {{
        docker {{
            before migrate {{ command "/bin/sh" "-c" "busybox sleep 0.1; echo migrated" }}
            container {name} image=app network=none {{
                command "/bin/sh" "-c" "trap 'exit 0' TERM; touch /ready; busybox sleep 6000 & wait"
                ready "test -e /ready"
            }}
        }}
    }}
    run boxed {{
        container "{BASE}"
        service db image="{BASE}" {{
            command "/bin/sh" "-c" "trap 'exit 0' TERM; touch /ready; busybox sleep 600 & wait"
            ready "test -e /ready"
        }}
        script "busybox sleep 0.1; test -e app/version"
    }}
}}
"##
    )
}

/// What the engine says it started for the stage that deploys.
struct Watch {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Watch {
    fn start() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let child = Command::new("docker")
            .args(["events", "--filter", "event=start", "--filter"])
            .args(["label=dev.pipewright.stage=deploy.shop", "--format"])
            .arg("{{.Actor.Attributes.name}}")
            .stdin(Stdio::null())
            .stdout(file.reopen().expect("a second handle"))
            .stderr(Stdio::null())
            .spawn()
            .expect("docker runs");
        Self { child, file }
    }

    /// How often the migration of a run was started.
    fn migrations(&self, run: &str) -> usize {
        let names = std::fs::read_to_string(self.file.path()).expect("readable");
        let started = |line: &&str| line.contains(run) && line.ends_with("before-migrate");
        names.lines().filter(started).count()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the lane has seen, for the figures at its end.
#[derive(Debug, Default)]
struct Tally {
    killed: usize,
    resumed: usize,
    not_created: usize,
    too_late: usize,
    killed_again: usize,
    second_manifests: usize,
}

struct Lane {
    delivery: Delivery,
    watch: Watch,
    rng: fastrand::Rng,
    /// How long a run takes that nobody disturbs.
    usual: Duration,
    tally: Tally,
}

/// A run, as `runs` lists it.
struct Listed {
    run: String,
    sha: String,
    ended: bool,
}

impl Lane {
    fn start(seed: u64) -> Self {
        let delivery = Delivery::start(&format!("kill{seed}"));
        delivery.source.write(&[
            ("app/version", "0\n"),
            (
                "build/tiny",
                "FROM pipewright-test-base:latest\nCOPY app/version /version\n",
            ),
        ]);
        let sha = delivery.pipeline(&pipeline(&delivery.name));
        let watch = Watch::start();
        let answer = delivery.pipewright(&["run", "ship"]).expect(0);
        let mut lane = Self {
            delivery,
            watch,
            rng: fastrand::Rng::with_seed(seed),
            usual: answer.took,
            tally: Tally::default(),
        };
        lane.check(0, &sha, 0);
        lane
    }

    fn last(&self) -> Option<Listed> {
        let answer = self
            .delivery
            .pipewright(&["runs", "--limit", "1", "--format", "json"])
            .expect(0);
        let rows: serde_json::Value = serde_json::from_str(&answer.out).expect("JSON");
        let row = rows.get(0).or_else(|| rows.get("runs")?.get(0))?;
        let word = |key: &str| row[key].as_str().map(str::to_owned);
        Some(Listed {
            run: word("run").unwrap_or_else(|| panic!("{row}")),
            sha: word("sha").unwrap_or_else(|| panic!("{row}")),
            ended: row["outcome"].is_string(),
        })
    }

    /// Starts the program and kills it within the time a run usually takes.
    fn kill(&mut self, args: &[&str]) -> bool {
        let delay = self.usual.mul_f64(self.rng.f64() * 1.05);
        let mut started = self.delivery.begin(args);
        let began = Instant::now();
        while began.elapsed() < delay {
            if started.ended() {
                // The first run, or a busier machine, had been slower than this.
                if args == ["run", "ship"] {
                    self.usual = self.usual.min(began.elapsed());
                }
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        started.kill();
        true
    }

    fn deliver(&mut self, version: u64) {
        let text = format!("{version}\n");
        let sha = self
            .delivery
            .source
            .commit(&format!("version {version}"), &[("app/version", &text)]);
        let mut deaths = 0;
        if self.kill(&["run", "ship"]) {
            self.tally.killed += 1;
            deaths += 1;
        }
        loop {
            match self.last() {
                Some(last) if last.sha == sha && last.ended => {
                    self.tally.too_late += 1;
                    break;
                }
                Some(last) if last.sha == sha => {
                    if self.rng.u8(..4) == 0 {
                        deaths += usize::from(self.kill(&["run", "--resume", "last"]));
                        self.tally.killed_again += 1;
                        continue;
                    }
                    self.tally.resumed += 1;
                    self.delivery
                        .pipewright(&["run", "--resume", "last"])
                        .expect(0);
                    break;
                }
                _ => {
                    self.tally.not_created += 1;
                    self.delivery.pipewright(&["run", "ship"]).expect(0);
                    break;
                }
            }
        }
        self.check(version, &sha, deaths);
    }

    /// Everything happened once, and nothing is left, after so many deaths.
    fn check(&mut self, version: u64, sha: &str, deaths: usize) {
        let delivery = &self.delivery;
        let last = self.last().expect("a run");
        assert_eq!(last.sha, sha);
        assert!(last.ended);
        let shown = delivery.show();
        assert_eq!(shown["outcome"], "succeeded", "{shown}");

        let subjects = repo::git(&delivery.manifests, &["log", "--format=%s", "main"]);
        let releases: Vec<&str> = subjects
            .lines()
            .filter(|line| line.starts_with("Release "))
            .collect();
        assert_eq!(
            releases.len() as u64,
            version + 1,
            "one commit for each version"
        );
        assert_eq!(releases[0], format!("Release {sha}"));
        assert!(
            delivery
                .manifest("main/values.yaml")
                .contains(&format!("\"{sha}\""))
        );

        let digest = delivery.digest("app-repo", sha).expect("pushed");
        let outputs = shown.to_string();
        assert!(outputs.contains(&digest), "{outputs}");
        let puts = delivery
            .front
            .count(&format!("PUT /v2/app-repo/manifests/{sha}"));
        // An engine whose client dies may still be sending; what it sends is the same manifest.
        assert!(
            (1..=1 + deaths).contains(&puts),
            "{puts} manifests after {deaths} deaths"
        );
        self.tally.second_manifests += puts - 1;

        let names = docker(&[
            "ps",
            "-a",
            "--no-trunc",
            "--format",
            "{{.Names}} {{.State}} {{.Image}}",
            "--filter",
            &format!("name={}", delivery.name),
        ]);
        let expected = format!(
            "{} running {}/app-repo@{digest}",
            delivery.name,
            delivery.host()
        );
        assert_eq!(names, expected, "version {version}");
        assert_eq!(
            self.watch.migrations(&last.run),
            1,
            "version {version} of run {}",
            last.run
        );

        let filter = format!("label=dev.pipewright.run={}", last.run);
        assert_eq!(
            docker(&["ps", "-aq", "--filter", &filter]),
            "",
            "containers"
        );
        assert_eq!(
            docker(&["network", "ls", "-q", "--filter", &filter]),
            "",
            "networks"
        );
        let work = std::fs::read_dir(delivery.state().join("work"));
        let left: Vec<_> = work.into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(processes(&delivery.name), Vec::<String>::new());
    }
}

/// Processes on this host, outside containers, whose command line holds a text.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!("{text}-")) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_hundred_runs_killed_at_random_and_resumed() {
    let began = Instant::now();
    let lanes: Vec<_> = LANES
        .into_iter()
        .enumerate()
        .map(|(seed, versions)| {
            std::thread::spawn(move || {
                let mut lane = Lane::start(seed as u64 + 1);
                for version in 1..=versions {
                    lane.deliver(version);
                }
                eprintln!("usually {:?}; {:?}", lane.usual, lane.tally);
                lane.tally
            })
        })
        .collect();
    // All of them come to their end, and clean up, before the first failure is told.
    let ended: Vec<_> = lanes.into_iter().map(|lane| lane.join()).collect();
    let tallies: Vec<Tally> = ended
        .into_iter()
        .map(|lane| lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    let resumed: usize = tallies.iter().map(|tally| tally.resumed).sum();
    assert!(
        resumed >= 50,
        "most runs were killed in the middle: {tallies:?}"
    );
    eprintln!("a hundred kills in {:?}", began.elapsed());
}
