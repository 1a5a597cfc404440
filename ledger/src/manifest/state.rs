//! The life of one version of the manifest.

/// Where one version of the manifest stands: in the files of the people who prepare it, then on each node.
///
/// Two further states belong to no single file or node. A version is *adopted* log by log, by entries
/// ([`crate::adoption::Adopted`]); it is *superseded* once a later version is in use, and stays readable
/// ([`crate::manifest::Manifest::at`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// A text without the approvals of a quorum of operators. Another text may still take its place.
    Draft,
    /// A quorum of operators approved exactly this text with their node keys: governance keys may sign it.
    Approved,
    /// The quorums that have to sign it did, with governance keys: any node takes it.
    Signed,
    /// Valid and stored on this node, which still uses the version before: its copy of a log that this version cuts
    /// is not at the cut yet.
    Pending,
    /// This node decides by it.
    InUse,
    /// Valid, but never used on this node: a cut names a state that the log's entries do not make. People must act.
    Refused,
    /// Another valid text of the same version is known. This node cosigns and accepts nothing until the version that
    /// follows the text which the operators choose.
    Conflict,
}

impl VersionState {
    /// The state of a text in people's files: `approvals` of the operators of the version before, of which `quorum`
    /// are needed, and whether every quorum that must sign has signed.
    #[must_use]
    pub const fn of_text(approvals: usize, quorum: usize, signed: bool) -> Self {
        match (approvals >= quorum, signed) {
            (false, _) => Self::Draft,
            (true, false) => Self::Approved,
            (true, true) => Self::Signed,
        }
    }

    /// Whether a node that holds the version may still come to use it without people's help.
    #[must_use]
    pub const fn may_be_used(self) -> bool {
        matches!(self, Self::Pending | Self::InUse)
    }
}
