//! Topics: bounded logs with cursors.
