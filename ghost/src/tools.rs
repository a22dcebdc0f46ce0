//! Tools on the worker's PATH that are the ghost under another name.
