//! What the environment may say besides settings: in which file a secret is, and nothing at all.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Command;
use clap::error::ErrorKind;

/// Lets what may hold a password be in a file, which a variable named DATABASE_URL_FILE, say, names: unlike a variable, it is
/// not shown to all who may look at a container.
///
/// # Errors
/// When the file cannot be read, or the variable itself is set as well.
pub fn with_secrets_from_files(command: Command) -> Result<Command, clap::Error> {
    fn read(command: Command, wrong: &mut Option<String>) -> Command {
        command
            .mut_args(|arg| {
                let name = arg.get_env().filter(|_| arg.is_hide_env_values_set());
                let Some(name) = name.map(OsStr::to_string_lossy) else {
                    return arg;
                };
                match secret_in_file(&name) {
                    Ok(None) => arg,
                    // For as long as the process lives, as clap asks; and read once for each command that takes it.
                    Ok(Some(text)) => arg
                        .env(None::<&'static str>)
                        .default_value(&*Box::leak(text.into_boxed_str()))
                        .hide_default_value(true),
                    Err(why) => {
                        *wrong = Some(why);
                        arg
                    }
                }
            })
            .mut_subcommands(|command| read(command, wrong))
    }
    let mut wrong = None;
    let command = read(command, &mut wrong);
    match wrong {
        Some(why) => Err(clap::Error::raw(ErrorKind::Io, why)),
        None => Ok(command),
    }
}

/// The value of a variable that is not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What the variable holds, or the file that the variable `NAME_FILE` names: for what has no flag, since other users see
/// command lines.
pub(super) fn secret(name: &str) -> Result<Option<String>, String> {
    if let Some(text) = secret_in_file(name)? {
        return Ok(Some(text));
    }
    let text = variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| format!("{name}: not UTF-8\n"))
}

/// What is in the file that the variable `NAME_FILE` names, if it is set.
fn secret_in_file(name: &str) -> Result<Option<String>, String> {
    let by_file = format!("{name}_FILE");
    let Some(file) = variable(&by_file).map(PathBuf::from) else {
        return Ok(None);
    };
    if variable(name).is_some() {
        return Err(format!(
            "{name} and {by_file} are both set; unset one of them\n"
        ));
    }
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("{by_file}: cannot read '{}': {error}\n", file.display()))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Has an empty environment variable mean as little as one that is not set, for every setting.
pub fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            if arg.get_env().is_some_and(is_empty) {
                arg.env(None::<&'static str>)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}
