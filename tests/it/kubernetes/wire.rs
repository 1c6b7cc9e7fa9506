//! The program itself, through the `kube` client, over HTTP.

use crate::support::fake_kubernetes::Beat::{Completes, New};
use crate::support::fake_kubernetes::{FakeKubernetes, Trouble};
use crate::support::program::{Ended, Program};

const TOKEN: &str = "tok-1234567890";

fn config(address: std::net::SocketAddr, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: dev\nclusters:\n- {{name: c, cluster: {{server: \"http://{address}\"}}}}\n\
         users:\n- name: u\n  user: {user}\ncontexts:\n- {{name: dev, context: {{cluster: c, user: u, namespace: main}}}}\n\
         - {{name: prod, context: {{cluster: c, user: u}}}}\n"
    )
}

const PIPELINE: &str = r#"
KUBERNETES
pipeline release {
    deploy web {
        kubernetes cluster {
            apply "k8s"
        }
    }
}
"#;
const MANIFEST: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {a: \"1\"}\n";

struct Rig {
    program: Program,
    fake: FakeKubernetes,
    server: crate::support::faulty::Faulty,
}

impl Rig {
    fn new(declaration: &str, user: &str) -> Self {
        let fake = FakeKubernetes::new(&[New(1), Completes]);
        fake.state().token = Some(TOKEN.to_owned());
        let server = fake.serve();
        let config = config(server.address(), user);
        let text = PIPELINE
            .replace("KUBERNETES", declaration)
            .replace("ADDRESS", &format!("http://{}", server.address()));
        let program = Program::with_files(&[
            ("pipelines/p.kdl", text.as_str()),
            (".gitignore", ".pipewright/\n"),
            ("k8s/a.yaml", MANIFEST),
            ("deploy/kubeconfig.yaml", config.as_str()),
        ]);
        Self {
            program,
            fake,
            server,
        }
    }

    fn run(&self, env: &[(&str, &str)]) -> Ended {
        let mut all: Vec<(String, String)> = Vec::new();
        let home = self.program.outside().display().to_string();
        all.push(("HOME".to_owned(), home));
        let given = env.iter();
        all.extend(given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.program.run_with(&all, &["run", "release"])
    }
}

#[test]
fn a_file_a_secret_a_token_and_the_environment_lead_to_the_cluster() {
    let user = format!("{{token: {TOKEN}}}");
    let address = "kubernetes cluster \"ADDRESS\" { token \"${secret.T}\" }\nsecret T env=T";
    for (declaration, namespaced) in [
        (
            "kubernetes cluster { kubeconfig \"deploy/kubeconfig.yaml\" }",
            true,
        ),
        (
            "kubernetes cluster { kubeconfig \"${secret.T}\" }\nsecret T env=T",
            true,
        ),
        ("kubernetes cluster", true),
        (address, false),
    ] {
        let rig = Rig::new(declaration, &user);
        let text = config(rig.server.address(), &user);
        let path = rig.program.repo.path().join("deploy/kubeconfig.yaml");
        let path = path.display().to_string();
        let env = match declaration {
            "kubernetes cluster" => vec![("KUBECONFIG", path.as_str())],
            declaration if declaration == address => vec![("T", TOKEN)],
            _ => vec![("T", text.as_str())],
        };
        let ended = rig.run(&env);
        let namespace = if namespaced { "main" } else { "default" };
        // The fake keeps objects of the namespace `main` only.
        if namespaced {
            assert_eq!(ended.code, Some(0), "{declaration}: {ended:#?}");
            assert_eq!(
                rig.fake.changes(),
                ["apply configmaps/shop"],
                "{declaration}"
            );
            rig.fake.clean();
        } else {
            assert!(
                ended
                    .out
                    .contains(&format!("namespaces \"{namespace}\" not found")),
                "{declaration}: {ended:#?}"
            );
        }
        assert!(!ended.out.contains(TOKEN) && !ended.err.contains(TOKEN));
    }
}

#[test]
fn a_plugin_gives_the_token_and_gives_it_again_once_it_is_refused() {
    let script = "n=$(cat \"$HOME/n\" 2>/dev/null || echo 0); echo $((n+1)) > \"$HOME/n\"; \
                  [ $n = 0 ] && t=old || t=tok-1234567890; echo \"{\\\"status\\\":{\\\"token\\\":\\\"$t\\\"}}\"";
    let user = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: [\"-c\", {}], interactiveMode: Never}}}}",
        serde_json::to_string(script).expect("JSON")
    );
    let rig = Rig::new(
        "kubernetes cluster { kubeconfig \"deploy/kubeconfig.yaml\" }",
        &user,
    );
    let ended = rig.run(&[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(rig.fake.changes(), ["apply configmaps/shop"]);
    let times = rig.program.wait_for("n");
    assert_eq!(times.trim(), "2", "it was asked once more");
}

#[test]
fn what_leads_to_no_cluster_says_why() {
    let user = "{token: wrong-token-00}";
    let file = "kubernetes cluster { kubeconfig \"deploy/kubeconfig.yaml\"";
    for (declaration, why) in [
        (
            format!("{file}; context staging }}"),
            "has no context \"staging\": it has dev, prod",
        ),
        (
            format!("{file} }}"),
            "it does not know who we are; the token may have expired",
        ),
        (
            "kubernetes cluster { kubeconfig \"deploy/none.yaml\" }".to_owned(),
            "No such file or directory (os error 2); write the path of a file, or the configuration itself",
        ),
        (
            "kubernetes cluster".to_owned(),
            "there is neither a configuration (KUBECONFIG, ~/.kube/config) nor the service account of a pod",
        ),
        (
            "kubernetes cluster { in-cluster }".to_owned(),
            "this process does not run in a pod that has a service account",
        ),
        (
            "kubernetes cluster \"https://127.0.0.1:9\" { token \"${secret.T}\" }\nsecret T env=T"
                .to_owned(),
            "nothing listens there: is the address right, and the cluster up?",
        ),
    ] {
        let rig = Rig::new(&declaration, user);
        let ended = rig.run(&[("T", "some-token-0000"), ("KUBECONFIG", "")]);
        assert_ne!(ended.code, Some(0), "{declaration}: {ended:#?}");
        assert!(ended.out.contains(why), "{declaration}: {ended:#?}");
        assert!(rig.fake.changes().is_empty());
    }
}

#[test]
fn a_cluster_that_limits_our_rate_is_waited_for_and_not_too_long() {
    let file = "kubernetes cluster { kubeconfig \"deploy/kubeconfig.yaml\" }";
    let user = format!("{{token: {TOKEN}}}");
    let rig = Rig::new(file, &user);
    // A change that was not made is made again, and once.
    rig.fake.trouble("apply configmaps", Trouble::Throttled(2));
    let began = std::time::Instant::now();
    let ended = rig.run(&[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(began.elapsed() >= std::time::Duration::from_secs(2));
    assert_eq!(rig.fake.changes(), ["apply configmaps/shop"]);

    let rig = Rig::new(file, &user);
    rig.fake
        .trouble("apply configmaps", Trouble::Throttled(3600));
    let ended = rig.run(&[]);
    assert_ne!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended
            .out
            .contains("limits our rate at apply configmap shop in namespace main"),
        "{ended:#?}"
    );
    assert!(ended.out.contains("asks to wait 3600 s"), "{ended:#?}");
    assert!(rig.fake.changes().is_empty());
}
