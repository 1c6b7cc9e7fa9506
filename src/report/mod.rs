//! Consumers of events: terminal, plain lines, JSON, JUnit.
