//! Step 5: policies on the request, which may answer by themselves. There are none yet; the control plane refuses to
//! store one, so nothing is configured that this step would leave undone.

use super::admit::Permit;
use super::receive::Call;
use crate::error::Refusal;

/// Runs them.
#[expect(clippy::unnecessary_wraps, reason = "the shape of the step")]
pub(super) fn guard(_call: &mut Call, _permit: &Permit) -> Result<(), Refusal> {
    Ok(())
}
