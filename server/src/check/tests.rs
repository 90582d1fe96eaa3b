//! What a check of a work directory prints.
