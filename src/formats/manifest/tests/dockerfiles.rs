//! Base images of Dockerfiles.

use super::*;

#[test]
fn dockerfiles_start_from_another_version() {
    let edit = |name: &str, place| Edit::Image {
        image: image(name, false),
        place,
    };
    let docker = Format::Dockerfile;
    let text = "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=linux/amd64 golang:1.22 AS build\nRUN echo FROM golang:1.22\nFROM golang:$V\nFROM build AS test\nFROM r.io/base:1@sha256:00\nCOPY --from=build /a /a\n";
    check(
        &edit("docker.io/library/golang", Place::Everywhere),
        docker,
        text,
        &text.replace("golang:1.22 AS", "golang:v2 AS"),
    );
    check(
        &edit("r.io/go", Place::Container("build".to_owned())),
        docker,
        text,
        &text.replace("golang:1.22 AS", "r.io/go:v2 AS"),
    );
    refused(
        &edit("r.io/base", Place::Everywhere),
        docker,
        text,
        "pinned",
    );
    refused(
        &edit("r.io/x", Place::Everywhere),
        docker,
        text,
        "starts from golang:1.22",
    );
    refused(
        &edit("golang", Place::At(".a".to_owned())),
        docker,
        text,
        "no paths",
    );
    refused(&set(".a", "b", false, false), docker, text, "no paths");
    refused(
        &set(".a", "b", false, false),
        Format::Hcl,
        "a = 1\n",
        "HCL is edited as text",
    );
}
