//! Part of step 4: whether path and method may pass. A proxy's rules run first, then those of each provider behind it, on
//! the path as it would be sent; both must allow. A target whose rules do not is left out; when none is left, the first
//! one's rule is the answer.

use http::HeaderName;

use super::denial::{self, Denial};
use super::receive::Call;
use crate::error::Refusal;
use crate::runtime::access::Access;
use crate::runtime::endpoint::Endpoint;

/// Some vendors take the method from here.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// A bit for each target that is left out.
#[cold]
pub(super) fn judge(call: &mut Call, endpoint: &Endpoint, context: usize) -> Result<u64, Refusal> {
    match decide(call, endpoint, context) {
        Ok(barred) => Ok(barred),
        Err(denial) => {
            call.account.denied(denial);
            Err(Refusal::AccessDenied)
        }
    }
}

fn decide(call: &Call, endpoint: &Endpoint, context: usize) -> Result<u64, Denial> {
    let asked = || format!("{} {}", call.head.method, &call.head.uri.path()[context..]);
    if let Some(name) = OVERRIDES.iter().find(|name| call.head.headers.contains_key(*name)) {
        let allowed = format!("no {name} where methods are ruled");
        return Err(Denial::new(format!("accessControl of {}", denial::owner(endpoint)), &asked(), &allowed));
    }
    let check = |access: &Access, owner: &dyn Fn() -> String| {
        access
            .judge(&call.head.method, &call.head.uri.path()[context..])
            .map_err(|rule| Denial::new(format!("accessControl of {}", owner()), &asked(), rule))
    };
    if let Some(access) = &endpoint.access {
        check(access, &|| denial::owner(endpoint))?;
    }
    let (mut barred, mut first) = (0, None);
    let targets = endpoint.target.targets();
    for (index, target) in targets.iter().enumerate() {
        let Some(access) = &target.provider.access else { continue };
        if let Err(denial) = check(access, &|| format!("llm-provider {}", target.provider.name)) {
            barred |= 1 << index;
            first.get_or_insert(denial);
        }
    }
    // One that is switched off is no way out.
    let open = |(index, target): (usize, &crate::runtime::proxy::RouteTarget)| {
        barred & 1 << index == 0 && !target.provider.disabled
    };
    match first {
        Some(denial) if !targets.iter().enumerate().any(open) => Err(denial),
        Some(_) | None => Ok(barred),
    }
}
