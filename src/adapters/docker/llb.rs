//! What the builder's frontend gets as its inputs, in the builder's low-level language: the
//! context, unpacked from the archive our session serves, and the Dockerfile itself.
//!
//! The archive is named by its digest, so builds that use the same context have the same vertex
//! whatever their session: the builder fetches it once, and not at all if it is cached.

use std::collections::HashMap;

use bollard_buildkit_proto::pb;
use prost::Message as _;

use crate::base::Digest;

/// Name of the archive on the builder's side.
const FILE: &str = "context.tar";

/// The context as the unpacked archive at `path` of our session.
pub(super) fn context(path: &str, checksum: &Digest) -> pb::Definition {
    let mut graph = Graph::default();
    let source = pb::op::Op::Source(pb::SourceOp {
        identifier: format!("http://buildkit-session{path}"),
        attrs: HashMap::from([
            ("http.filename".to_owned(), FILE.to_owned()),
            ("http.checksum".to_owned(), checksum.as_str().to_owned()),
        ]),
    });
    let archive = graph.add(&[], source, "[internal] receive build context");
    let copy = pb::file_action::Action::Copy(pb::FileActionCopy {
        src: format!("/{FILE}"),
        dest: "/".to_owned(),
        mode: -1,
        attempt_unpack_docker_compatibility: true,
        timestamp: -1,
        ..Default::default()
    });
    let unpacked = graph.add(&[archive], file(0, copy), "[internal] load build context");
    graph.finish(unpacked)
}

/// A directory that holds the Dockerfile only.
pub(super) fn dockerfile(name: &str, text: &str) -> pb::Definition {
    let mut graph = Graph::default();
    let write = pb::file_action::Action::Mkfile(pb::FileActionMkFile {
        path: format!("/{name}"),
        mode: 0o644,
        data: text.as_bytes().to_vec(),
        timestamp: -1,
        ..Default::default()
    });
    let written = graph.add(&[], file(-1, write), "[internal] load build definition");
    graph.finish(written)
}

/// One action on an empty directory, with an optional second input.
fn file(secondary_input: i64, action: pb::file_action::Action) -> pb::op::Op {
    pb::op::Op::File(pb::FileOp {
        actions: vec![pb::FileAction {
            input: -1,
            secondary_input,
            output: 0,
            action: Some(action),
        }],
    })
}

#[derive(Default)]
struct Graph {
    definition: pb::Definition,
}

impl Graph {
    /// Adds an operation and returns the digest others refer to it by.
    fn add(&mut self, inputs: &[String], op: pb::op::Op, name: &str) -> String {
        let digest = self.push(inputs, Some(op));
        let description = HashMap::from([("llb.customname".to_owned(), name.to_owned())]);
        let metadata = pb::OpMetadata {
            description,
            ..Default::default()
        };
        self.definition.metadata.insert(digest.clone(), metadata);
        digest
    }

    /// Makes an operation the result.
    fn finish(mut self, result: String) -> pb::Definition {
        self.push(&[result], None);
        self.definition
    }

    fn push(&mut self, inputs: &[String], op: Option<pb::op::Op>) -> String {
        let inputs = inputs
            .iter()
            .map(|digest| pb::Input {
                digest: digest.clone(),
                index: 0,
            })
            .collect();
        let bytes = encode(&pb::Op {
            inputs,
            op,
            ..Default::default()
        });
        let digest = Digest::of(&bytes).as_str().to_owned();
        self.definition.def.push(bytes);
        digest
    }
}

/// Encodes an operation so that equal operations have equal bytes: prost writes maps in no
/// particular order, and two builds must agree on the digest of the archive's vertex.
fn encode(op: &pb::Op) -> Vec<u8> {
    let Some(pb::op::Op::Source(source)) = &op.op else {
        return op.encode_to_vec();
    };
    let mut bytes = pb::Op {
        op: None,
        ..op.clone()
    }
    .encode_to_vec();
    let mut body = pb::SourceOp {
        identifier: source.identifier.clone(),
        attrs: HashMap::new(),
    }
    .encode_to_vec();
    let mut attrs: Vec<_> = source.attrs.iter().collect();
    attrs.sort_unstable();
    for (key, value) in attrs {
        let one = pb::SourceOp {
            identifier: String::new(),
            attrs: HashMap::from([(key.clone(), value.clone())]),
        };
        body.extend(one.encode_to_vec());
    }
    // Field 3 (`source`), length-delimited.
    bytes.push(3 << 3 | 2);
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contexts_are_equal_vertices() {
        let checksum = Digest::of(b"x");
        let first = context("/x.tar", &checksum);
        for _ in 0..50 {
            assert_eq!(context("/x.tar", &checksum).def, first.def);
        }
        assert_ne!(context("/y.tar", &checksum).def, first.def);
    }

    #[test]
    fn the_archive_operation_decodes_to_what_was_meant() {
        let definition = context("/x.tar", &Digest::of(b"x"));
        let op = pb::Op::decode(&*definition.def[0]).expect("well-formed");
        let Some(pb::op::Op::Source(source)) = op.op else {
            panic!("no source: {op:?}");
        };
        assert_eq!(source.identifier, "http://buildkit-session/x.tar");
        assert_eq!(source.attrs["http.checksum"], Digest::of(b"x").as_str());
        assert_eq!(source.attrs.len(), 2);
        let last =
            pb::Op::decode(&**definition.def.last().expect("a result")).expect("well-formed");
        assert_eq!(
            last.inputs[0].digest,
            Digest::of(&definition.def[1]).as_str()
        );
    }
}
