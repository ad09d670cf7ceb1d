//! Decides whose requests are answered: those that know the token, under a name that no page elsewhere can give this
//! machine.

use std::net::IpAddr;

use rand::TryRngCore;
use rand::rngs::OsRng;

/// Bytes of the token.
const TOKEN_BYTES: usize = 16;

/// The rule by which requests are let in.
#[derive(Clone, Debug)]
pub struct Access {
    token: String,
    cookie: String,
}

impl Access {
    /// Makes a rule with a token that nobody can guess; `port` tells the cookies of several servers apart.
    pub fn new(port: u16) -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        OsRng.try_fill_bytes(&mut bytes).expect("the system has random numbers");
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { token, cookie: format!("rootgan-{port}") }
    }

    /// Returns the token, which stands in the address that is printed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns the header that has a browser send the token from now on.
    pub fn set_cookie(&self) -> String {
        format!("{}={}; HttpOnly; SameSite=Strict; Path=/", self.cookie, self.token)
    }

    /// Whether this is the token. The time that the comparison takes does not depend on where they differ.
    pub fn is_token(&self, given: &str) -> bool {
        let (own, given) = (self.token.as_bytes(), given.as_bytes());
        own.len() == given.len() && own.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// Whether a `Cookie` header has the token.
    pub fn is_in_cookies(&self, header: &str) -> bool {
        let values = header.split(';').filter_map(|pair| pair.trim().split_once('='));
        values.into_iter().any(|(name, value)| name == self.cookie && self.is_token(value))
    }

    /// Whether a `Host` header is an address or `localhost`. A page elsewhere could give this machine a name of its own
    /// (DNS rebinding), but no address.
    pub fn is_host(header: &str) -> bool {
        let host = match header.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => header.rsplit_once(':').map_or(header, |(host, _)| host),
        };
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        let access = Access::new(8000);
        assert_eq!(access.token().len(), 32);
        assert!(access.is_token(access.token()));
        assert!(!access.is_token("") && !access.is_token(&access.token()[1..]) && !access.is_token(&"0".repeat(32)));
        assert_ne!(access.token(), Access::new(8000).token());
        let cookie = format!("a=b; rootgan-8000={}; c=d", access.token());
        assert!(access.is_in_cookies(&cookie));
        assert!(!access.is_in_cookies(&cookie.replace("8000", "8001")) && !access.is_in_cookies("rootgan-8000="));
    }

    #[test]
    fn names_that_others_can_give_are_no_hosts() {
        for host in ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7:1"] {
            assert!(Access::is_host(host), "{host}");
        }
        for host in [
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8000",
            "",
            "[evil]:1",
            "a@127.0.0.1",
        ] {
            assert!(!Access::is_host(host), "{host}");
        }
    }
}
