//! Holm from outside: as a library and as a program. One binary, one module a subject.

#[path = "integration/cli_help.rs"]
mod cli_help;
#[path = "integration/cli_process.rs"]
mod cli_process;
