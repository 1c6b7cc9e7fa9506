//! The manual page: one page with every command.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Cli;

/// Writes the manual page in roff.
pub fn write(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    // The overview template is for terminals; the page has its own order.
    let page = Man::new(command.clone()).section("1");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        write_command(out, sub)?;
    }
    page.render_extra_section(out)?;
    page.render_version_section(out)
}

fn write_command(out: &mut dyn Write, sub: &clap::Command) -> io::Result<()> {
    let usage = sub.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    writeln!(out, ".SS {}", roff(usage))?;
    let about = sub.get_long_about().or(sub.get_about());
    if let Some(about) = about {
        for paragraph in about.to_string().split("\n\n") {
            writeln!(out, "{}\n.PP", roff(&paragraph.replace('\n', " ")))?;
        }
    }
    for arg in sub.get_arguments() {
        if arg.is_global_set() || arg.get_id() == "help" || arg.get_id() == "version" {
            continue;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, ".TP\n{}\n{}", roff(&arg.to_string()), roff(&help))?;
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        if !values.is_empty() && arg.get_action().takes_values() {
            writeln!(out, "({})", roff(&values.join(", ")))?;
        }
    }
    if let Some(examples) = sub.get_after_help() {
        writeln!(out, ".PP\n.nf")?;
        for line in examples.to_string().lines() {
            writeln!(out, "{}", roff(line))?;
        }
        writeln!(out, ".fi")?;
    }
    Ok(())
}

/// Text that roff prints as it is.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.chars().next() {
        Some('.' | '\'') => format!("\\&{escaped}"),
        _ => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_covers_every_command_and_option() {
        let mut out = Vec::new();
        write(&mut out).expect("memory does not fail");
        let page = String::from_utf8(out).expect("pages are UTF-8");
        assert!(page.contains(".TH pipewright 1"), "{page}");
        for sub in Cli::command().get_subcommands() {
            assert!(
                page.contains(&format!(".SS pipewright {}", roff(sub.get_name()))),
                "{page}"
            );
            for arg in sub.get_arguments() {
                if let Some(long) = arg.get_long() {
                    let long = roff(&format!("--{long}"));
                    assert!(page.contains(&long), "{long}");
                }
            }
        }
        assert!(!page.lines().any(|line| line.starts_with("'")));
    }
}
