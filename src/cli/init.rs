//! `init`: writes a first pipeline from what a repository holds. Pure: the caller walks the
//! files and writes the text.

mod find;

use std::fmt::Write as _;

use self::find::{Images, Manifest, Suite, images, manifest, suites};
use crate::base::human_count;
use crate::report::text;

/// Images written at most; a repository with more is better served by its own hand.
const MAX_IMAGES: usize = 30;

/// Name of the pipeline that [`draft`] writes, and of its file without `.kdl`.
pub fn pipeline_name(files: &[String]) -> &'static str {
    if images(files, None).list.is_empty() {
        "test"
    } else {
        "release"
    }
}

/// Commands to try once the pipeline is written.
pub fn next_commands(files: &[String], origin: Option<&str>) -> Vec<String> {
    let host = origin.and_then(Host::parse);
    let found = images(files, host.as_ref().map(|host| host.project.as_str()));
    let name = pipeline_name(files);
    let mut commands = vec![
        "pipewright check".to_owned(),
        format!("pipewright plan {name}"),
        format!("pipewright run {name}"),
    ];
    if let Some(image) = found.list.first() {
        // A build alone needs no registry and no login.
        commands[2] = format!("pipewright run {name} --only build.{}", image.name);
    }
    commands.push("echo .pipewright/ >> .gitignore".to_owned());
    commands
}

/// A first pipeline. `files` are paths relative to the repository root, with `/`.
pub fn draft(files: &[String], origin: Option<&str>, default_branch: &str) -> String {
    let host = origin.and_then(Host::parse);
    let found = images(files, host.as_ref().map(|host| host.project.as_str()));
    if found.list.is_empty() {
        suite(files, default_branch)
    } else {
        release(files, &found, host.as_ref(), default_branch)
    }
}

fn release(files: &[String], found: &Images, host: Option<&Host>, branch: &str) -> String {
    let shown = &found.list[..found.list.len().min(MAX_IMAGES)];
    let names: Vec<&str> = shown.iter().map(|image| image.name.as_str()).collect();
    let all = names.join(" ");
    let mut page = String::from(
        "// How a commit of this repository becomes images in a registry.\n\
         //\n\
         // Check it:  pipewright check\n\
         // Plan it:   pipewright plan release     (changes nothing)\n\
         // Run it:    pipewright run release\n\
         \n",
    );
    registry(&mut page, host);
    let registry = host.and_then(Host::registry);
    let (name, repository) = match &registry {
        Some(registry) => (
            registry.name,
            format!("{}/${{name}}", escape(&registry.path)),
        ),
        None => ("local", "${name}".to_owned()),
    };
    let _ = writeln!(
        page,
        "// What is built, and its name there. `tag` is the identity of an image: one per commit.\n\
         // `${{name}}` is each of the names in turn.\n\
         image {all} registry={name} repository=\"{repository}\" {{\n    tag \"${{git.sha}}\"\n}}\n"
    );
    let _ = writeln!(page, "pipeline release {{");
    let _ = writeln!(
        page,
        "    // What starts it on a runner. By hand: pipewright run release\n    \
             on {{\n        push branch={}\n    }}\n",
        word(branch)
    );
    let _ = writeln!(
        page,
        "    // Stages start as soon as what they use is there."
    );
    for image in shown {
        build(&mut page, image);
    }
    if found.list.len() > shown.len() {
        let _ = writeln!(
            page,
            "    // {} found; add them likewise.",
            human_count(found.list.len() - shown.len(), "more Dockerfile")
        );
    }
    let first = names[0];
    let _ = write!(
        page,
        "\n    // A scan stands between an image and its push. It needs Trivy on this machine.\n    \
             //  scan {first} {{ fail-on high; ignore-unfixed }}\n\
         \n    // An image that the registry has already is up-to-date: nothing is sent.\n    \
             push {all}\n"
    );
    bump(&mut page, files, first);
    page.push_str("}\n");
    if let Some(manifest) = manifest(files) {
        repository_example(&mut page, host, branch, &manifest);
    }
    page
}

fn registry(page: &mut String, host: Option<&Host>) {
    match host.and_then(Host::registry) {
        Some(registry) => {
            let _ = write!(
                page,
                "// A secret is never a plain text: it cannot end up in a tag, a label or a log.\n\
                 secret REGISTRY_TOKEN env=REGISTRY_TOKEN\n\
                 \n\
                 // Where images go. To try it without an account, start a registry with\n\
                 //   docker run -d -p 5000:5000 registry:2\n\
                 // and write instead:\n\
                 //  registry {} \"localhost:5000\" {{ plain-http }}\n\
                 registry {} \"{}\" {{\n    \
                     login \"{}\" \"${{secret.REGISTRY_TOKEN}}\"\n\
                 }}\n\n",
                registry.name,
                registry.name,
                registry.host,
                escape(&registry.user),
            );
        }
        None => page.push_str(
            "// Where images go. This one is for a first try; start it with\n\
             //   docker run -d -p 5000:5000 registry:2\n\
             // A registry with a login looks like this:\n\
             //  secret REGISTRY_TOKEN env=REGISTRY_TOKEN\n\
             //  registry main \"registry.example.com\" { login me \"${secret.REGISTRY_TOKEN}\" }\n\
             registry local \"localhost:5000\" {\n    plain-http\n}\n\n",
        ),
    }
}

fn build(page: &mut String, image: &find::Image) {
    let mut how = Vec::new();
    if image.context != "." {
        how.push(format!("context \"{}\"", escape(&image.context)));
    }
    if image.dockerfile != "Dockerfile" {
        how.push(format!("dockerfile \"{}\"", escape(&image.dockerfile)));
    }
    let _ = match how.as_slice() {
        [] => writeln!(page, "    build {}", image.name),
        [one] => writeln!(page, "    build {} {{ {one} }}", image.name),
        more => writeln!(
            page,
            "    build {} {{\n        {}\n    }}",
            image.name,
            more.join("\n        ")
        ),
    };
}

/// How the new tag would reach the manifests that were found.
fn bump(page: &mut String, files: &[String], image: &str) {
    let Some(manifest) = manifest(files) else {
        return;
    };
    let edit = match &manifest {
        Manifest::Helm(path) => format!(
            "file \"{}\" {{ set \".image.tag\" \"${{image.{image}.tag}}\" }}",
            escape(path)
        ),
        Manifest::Kustomize(folder) => {
            format!("kustomize \"{}\" {{ image {image} }}", escape(folder))
        }
        Manifest::Plain(path) => format!(
            "file \"{}\" {{ set \".spec.template.spec.containers[0].image\" \"${{image.{image}.ref}}\" }}",
            escape(path)
        ),
    };
    let _ = write!(
        page,
        "\n    // Writes the new tag into a manifest and commits it, only if something changes.\n    \
             // Uncomment this, and `repo` below, once the path to the value is right.\n    \
             //  bump main repo=manifests {{\n    \
             //      {edit}\n    \
             //      commit \"Release ${{git.short-sha}}\"\n    \
             //  }}\n"
    );
}

fn repository_example(page: &mut String, host: Option<&Host>, branch: &str, manifest: &Manifest) {
    let url = host.map_or_else(
        || "https://git.example.com/team/manifests".to_owned(),
        |host| format!("https://{}/{}", host.name, host.path),
    );
    let _ = write!(
        page,
        "\n// The repository that holds {}.\n\
         //  secret GIT_TOKEN env=GIT_TOKEN\n\
         //  repo manifests \"{}\" branch={} {{\n\
         //      token \"${{secret.GIT_TOKEN}}\"\n\
         //      identity \"release bot\" email=\"bot@example.com\"\n\
         //  }}\n",
        text::one_line(manifest.path()),
        escape(&url),
        word(branch)
    );
}

fn suite(files: &[String], branch: &str) -> String {
    let mut page = String::from(
        "// What is tried for every commit of this repository.\n\
         //\n\
         // Check it:  pipewright check\n\
         // Plan it:   pipewright plan test     (changes nothing)\n\
         // Run it:    pipewright run test\n\
         \n",
    );
    let _ = writeln!(
        page,
        "pipeline test {{\n    \
             // What starts it on a runner. By hand: pipewright run test\n    \
             on {{\n        push branch={}\n    }}\n",
        word(branch)
    );
    let suites = suites(files);
    if suites.is_empty() {
        page.push_str(
            "    // No Dockerfile and no build file was found: write what your tests need.\n    \
                 run test {\n        script \"echo 'no tests yet'\"\n    }\n",
        );
    }
    let many = suites.len() > 1;
    for (at, suite) in suites.iter().enumerate() {
        if at > 0 {
            page.push('\n');
        }
        run(&mut page, suite, many);
    }
    page.push_str(
        "}\n\
         \n\
         // With a Dockerfile, a pipeline can build and push an image:\n\
         //  registry local \"localhost:5000\" { plain-http }\n\
         //  image app registry=local { tag \"${git.sha}\" }\n\
         //  pipeline release {\n\
         //      build app\n\
         //      push app\n\
         //  }\n",
    );
    page
}

fn run(page: &mut String, suite: &Suite, many: bool) {
    let name = if many {
        format!("test-{}", suite.name)
    } else {
        "test".to_owned()
    };
    let _ = writeln!(page, "    // {}", suite.why);
    let _ = writeln!(page, "    run {name} {{");
    if let Some(container) = suite.container {
        let _ = writeln!(
            page,
            "        container \"{container}\"    // remove it to run on this machine"
        );
    }
    if let Some(cache) = suite.cache {
        let _ = writeln!(page, "        cache \"{cache}\"");
    }
    match suite.script.as_slice() {
        [one] => {
            let _ = writeln!(page, "        script \"{}\"", escape(one));
        }
        lines => {
            let _ = writeln!(page, "        script #\"\"\"");
            for line in lines {
                let _ = writeln!(page, "            {line}");
            }
            let _ = writeln!(page, "            \"\"\"#");
        }
    }
    let _ = writeln!(page, "        timeout \"20m\"\n    }}");
}

/// Where the repository lives, as its `origin` tells.
struct Host {
    name: String,
    /// Owner and project, without `.git`.
    path: String,
    /// The last part of the path.
    project: String,
}

/// A registry that belongs to a host.
struct Registry {
    name: &'static str,
    host: &'static str,
    path: String,
    user: String,
}

impl Host {
    /// Understands `https://host/owner/project.git`, `ssh://…` and `git@host:owner/project`.
    fn parse(origin: &str) -> Option<Self> {
        let origin = origin.trim();
        let rest = match origin.split_once("://") {
            Some(("http" | "https" | "ssh" | "git", rest)) => rest.to_owned(),
            Some(_) => return None,
            None => origin.replacen(':', "/", 1),
        };
        // Whatever stands before the @ may be a password.
        let rest = rest
            .rsplit_once('@')
            .map_or(rest.as_str(), |(_, rest)| rest);
        let (host, path) = rest.split_once('/')?;
        let name = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
        let path = path.trim_matches('/').trim_end_matches(".git");
        let project = path.rsplit('/').next().unwrap_or(path);
        let known = |c: char| c.is_ascii_alphanumeric() || "-_./~".contains(c);
        let whole = !project.is_empty() && path.contains('/') && name.contains('.');
        if !whole || !path.chars().all(known) || !name.chars().all(known) {
            return None;
        }
        Some(Self {
            name,
            path: path.to_owned(),
            project: project.to_owned(),
        })
    }

    fn registry(&self) -> Option<Registry> {
        let path = self.path.to_ascii_lowercase();
        let owner = self.path.split('/').next().unwrap_or("").to_owned();
        match self.name.as_str() {
            "github.com" => Some(Registry {
                name: "ghcr",
                host: "ghcr.io",
                path: owner.to_ascii_lowercase(),
                user: owner,
            }),
            "gitlab.com" => Some(Registry {
                name: "gitlab",
                host: "registry.gitlab.com",
                path,
                user: owner,
            }),
            _ => None,
        }
    }
}

/// A text inside a quoted KDL string, with nothing interpolated.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '$' if chars.peek() == Some(&'{') => escaped.push_str("$$"),
            c if c.is_control() || text::clean(c.encode_utf8(&mut [0; 4])).is_empty() => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A word as a KDL value: bare if it can be, quoted if not.
fn word(text: &str) -> String {
    let bare = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !find::RESERVED.contains(&text);
    if bare {
        text.to_owned()
    } else {
        format!("\"{}\"", escape(text))
    }
}

#[cfg(test)]
mod tests;
