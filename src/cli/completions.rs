//! Completions for shells.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

/// Writes the completion script of a shell.
pub fn write(out: &mut dyn Write, shell: Shell) -> io::Result<()> {
    let mut command = Cli::command();
    // The generator panics if its writer fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "pipewright", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            write(&mut out, *shell).expect("memory does not fail");
            let script = String::from_utf8(out).expect("scripts are UTF-8");
            for sub in Cli::command().get_subcommands() {
                assert!(
                    script.contains(sub.get_name()),
                    "{shell} {}",
                    sub.get_name()
                );
            }
        }
    }
}
