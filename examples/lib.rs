//! Examples of logd; each is a file of its own, and its header says what to type.
