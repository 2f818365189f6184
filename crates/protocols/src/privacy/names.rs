//! Names whose values are secrets.

/// Header fields whose values are secrets, beside those with a telling end.
const HEADERS: [&[u8]; 21] = [
    b"api-key",
    b"authentication-info",
    b"cf-access-client-id",
    b"dd-application-key",
    b"ocp-apim-subscription-key",
    b"proxy-authentication-info",
    b"x-amz-server-side-encryption-customer-key",
    b"x-amzn-oidc-data",
    b"x-auth",
    b"x-auth-key",
    b"x-auth-user",
    b"x-client-cert",
    b"x-forwarded-client-cert",
    b"x-functions-key",
    b"x-honeycomb-team",
    b"x-key",
    b"x-master-key",
    b"x-session",
    b"x-ssl-client-cert",
    b"x-subscription-key",
    b"ssl-client-cert",
];

/// Ends of names of header fields and parameters whose values are secrets.
const ENDS: [&[u8]; 27] = [
    b"access-key",
    b"access_key",
    b"accesskey",
    b"accesskeyid",
    b"api-key",
    b"api_key",
    b"apikey",
    b"assertion",
    b"authorization",
    b"credential",
    b"credentials",
    b"csrf",
    b"jwt",
    b"passphrase",
    b"passwd",
    b"password",
    b"private-key",
    b"private_key",
    b"pwd",
    b"secret",
    b"secret_key",
    b"session-id",
    b"session_id",
    b"sessionid",
    b"signature",
    b"token",
    b"xsrf",
];

/// Parameters whose values are secrets, beside those with a telling end.
const PARAMETERS: [&[u8]; 20] = [
    b"auth",
    b"code",
    b"code_verifier",
    b"hmac",
    b"key",
    b"jsessionid",
    b"mfa",
    b"oauth_verifier",
    b"otp",
    b"pass",
    b"phpsessid",
    b"pin",
    b"pw",
    b"samlrequest",
    b"samlresponse",
    b"session",
    b"sid",
    b"sig",
    b"ticket",
    b"totp",
];

/// No name of a secret is longer; of a longer one the end is compared.
pub(super) const LONGEST: usize = 128;

/// Returns true if the value of the header field is a secret.
pub(super) fn is_secret_header(name: &[u8]) -> bool {
    has_secret_end(name) || ends_with(name, b"-auth") || is_one_of(&HEADERS, name)
}

/// Returns true if the value of the parameter of a URL or form is a secret.
pub(super) fn is_secret_parameter(name: &[u8]) -> bool {
    // The last part of `user[password]` and `user.password`.
    let name = name.strip_suffix(b"]").unwrap_or(name);
    let last = name.rsplit(|byte| matches!(byte, b'[' | b'.')).next();
    let last = last.unwrap_or(name);
    has_secret_end(last) || is_one_of(&PARAMETERS, last)
}

fn has_secret_end(name: &[u8]) -> bool {
    ENDS.iter().any(|end| ends_with(name, end))
}

fn ends_with(name: &[u8], end: &[u8]) -> bool {
    name.len() >= end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end)
}

fn is_one_of(names: &[&[u8]], name: &[u8]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields() {
        for name in [
            "Authorization",
            "PROXY-authorization",
            "x-api-key",
            "X-Auth-Token",
            "X-Amz-Security-Token",
            "Private-Token",
            "X-Goog-Api-Key",
            "X-Hub-Signature",
            "Ocp-Apim-Subscription-Key",
            "X-CSRF",
        ] {
            assert!(is_secret_header(name.as_bytes()), "{name}");
        }
        for name in [
            "Host",
            "Sec-WebSocket-Key",
            "Idempotency-Key",
            "WWW-Authenticate",
            "Content-Type",
            "",
        ] {
            assert!(!is_secret_header(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn parameters() {
        for name in [
            "token",
            "access_token",
            "API_KEY",
            "user[password]",
            "user.password",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "sig",
            "code",
        ] {
            assert!(is_secret_parameter(name.as_bytes()), "{name}");
        }
        for name in ["q", "page", "tokens_total", "keyboard", "", "]"] {
            assert!(!is_secret_parameter(name.as_bytes()), "{name}");
        }
    }
}
