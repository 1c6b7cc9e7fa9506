//! Published ports as people write them: `8080:80`, `127.0.0.1:8080:80/udp`, `[::1]:8080:80`.

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    /// Port and protocol within the container: `80/tcp`.
    pub(super) container: String,
    /// Address on the host; every one if empty.
    pub(super) address: String,
    /// Port on the host; the engine chooses if empty.
    pub(super) port: String,
}

/// Reads `[[host-address:]host-port:]container-port[/protocol]`; the error says what is wrong.
pub(super) fn parse(text: &str) -> Result<Publish, String> {
    let shown: String = text.chars().take(100).collect();
    let fail = |why: &str| {
        format!(
            "\"{shown}\" is no published port: {why}; write [[address:]host-port:]container-port[/udp]"
        )
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(fail("the protocol must be tcp, udp or sctp"));
    }
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()))
            .map(|port| port.to_string())
            .ok_or_else(|| fail("a port is a number from 1 to 65535"))
    };
    let (host, container) = match ports.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, ports),
    };
    let container = format!("{}/{protocol}", number(container)?);
    let Some(host) = host else {
        return Ok(Publish {
            container,
            address: String::new(),
            port: String::new(),
        });
    };
    let (address, port) = match host.rsplit_once(':') {
        Some((address, port)) => (address, port),
        None => ("", host),
    };
    let address = match address.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
            .ok_or_else(|| fail("what stands in brackets is no IPv6 address"))?,
        None if address.is_empty() => address,
        None if address.parse::<std::net::Ipv4Addr>().is_ok() => address,
        None => return Err(fail("the host address must be IPv4, or IPv6 in brackets")),
    };
    let port = if port.is_empty() && !address.is_empty() {
        String::new()
    } else {
        number(port)?
    };
    Ok(Publish {
        container,
        address: address.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, address, port, container) in [
            ("80", "", "", "80/tcp"),
            ("8080:80", "", "8080", "80/tcp"),
            ("53:53/udp", "", "53", "53/udp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1", "8080", "80/udp"),
            ("127.0.0.1::80", "127.0.0.1", "", "80/tcp"),
            ("[::1]:8080:80", "::1", "8080", "80/tcp"),
        ] {
            let expected = Publish {
                container: container.to_owned(),
                address: address.to_owned(),
                port: port.to_owned(),
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "", "0", "x", "80:", ":80", "70000", "1:2:3:4", "80/icmp", "+80", "host:1:2",
            "[::1:80", "[x]:1:2", "1-3:1-3",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("is no published port"), "{error}");
        }
    }
}
