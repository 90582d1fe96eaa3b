//! Ad-hoc access to logd from a shell.
