//! Why a function is not attached to, or not where it would be cheapest.

/// A property of a file's code that could not be proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file lacks the function.
    #[error("the library does not have it")]
    Missing,
    /// Only the plain form exists.
    #[error("the _ex form is not exported")]
    NoExtendedForm,
    /// Another form of the operation leaves its work to another function.
    #[error("{symbol} does not call the same function")]
    OtherCallee {
        /// The other form.
        symbol: &'static str,
    },
    /// A function that must not be captured leaves its work to the same function.
    #[error("{symbol} calls the same function")]
    SharedCallee {
        /// That function.
        symbol: &'static str,
    },
    /// Others can call the internal function by a name.
    #[error("the function behind it is exported itself")]
    ExportedCallee,
    /// A probe at the internal function would cost as much as one at the exported function.
    #[error("the function behind it begins with an instruction that the kernel does not emulate")]
    NotEmulated,
    /// Like [`Self::NotEmulated`], for every function of the architecture.
    #[error("on arm64 no function behind it begins with an instruction that the kernel emulates")]
    NeverEmulated,
    /// Too many probes would be needed.
    #[error("it returns in {observed} places, more than {most}")]
    Returns {
        /// Places where it returns.
        observed: usize,
        /// The bound.
        most: usize,
    },
    /// The address is not in an executable segment.
    #[error("address {address:#x} is not in the file's executable code")]
    NotInCode {
        /// Virtual address.
        address: u64,
    },
    /// A probe would be in the middle of an instruction.
    #[error("no instruction begins at address {address:#x}")]
    NoInstruction {
        /// Virtual address.
        address: u64,
    },
    /// The function's size is not known, too large, or leads out of the file.
    #[error("its code cannot be read")]
    Unreadable,
    /// There are bytes that are not an instruction.
    #[error("its code cannot be decoded")]
    Undecodable,
    /// Data is mixed into the code.
    #[error("its instructions and its data cannot be distinguished")]
    MixedWithData,
    /// The internal function would not see the parameters of the exported one.
    #[error("its parameters change before the call")]
    ParametersChange,
    /// The callee does not store the length in a variable of the caller.
    #[error("the length is not stored on its stack")]
    LengthElsewhere,
    /// The result is not the value that the callee stored.
    #[error("it does not return the stored length")]
    OtherResult,
    /// The function lacks Go's check of its stack.
    #[error("it does not begin as Go functions do")]
    NotGo,
    /// The function lacks the check of its stack that Go makes on arm64.
    #[error("it does not begin as Go functions do since 1.18")]
    NotRecentGo,
    /// There is no return instruction.
    #[error("it never returns")]
    NeverReturns,
    /// A return cannot be seen.
    #[error("it returns by an instruction that the kernel takes no probe at")]
    UnseenReturn,
    /// It may be left without a return.
    #[error("it branches out of its body")]
    BranchesOut,
    /// It may be left without a return.
    #[error("it branches through a pointer")]
    BranchesThroughPointer,
    /// The function that it calls is not known.
    #[error("it calls through a pointer")]
    CallsThroughPointer,
    /// The function that it leaves its work to is not known.
    #[error("it calls {observed} functions of its library, not 1")]
    Calls {
        /// Number of functions that it calls.
        observed: usize,
    },
    /// The content of the registers at the call is not known.
    #[error("there is more than one way to the call")]
    SeveralWays,
    /// The content of the registers at the call is not known.
    #[error("{instruction} precedes the call")]
    UnknownInstruction {
        /// Its mnemonic.
        instruction: String,
    },
    /// The program's symbols were removed.
    #[error("its symbols were removed")]
    NoSymbols,
    /// No function of rustls takes part in receiving.
    #[error("no known function receives plaintext")]
    NoReceivers,
    /// More functions would have to be checked than is done for any file.
    #[error("more than {most} functions receive plaintext")]
    Receivers {
        /// The bound.
        most: usize,
    },
    /// Some plaintext does not pass the function with the probe.
    #[error("take_received_plaintext was inlined where plaintext is received")]
    Inlined,
    /// The parameters may be others.
    #[error("send_appdata_encrypt is not that of rustls 0.23")]
    OtherVersion,
    /// More probes would be needed than are spent on any file.
    #[error("it has more than {most} copies of drop_in_place")]
    DropFunctions {
        /// The bound.
        most: usize,
    },
    /// The function was not understood.
    #[error("such functions are only understood on x86-64")]
    OtherArchitecture,
    /// A getter does not return a field of its object.
    #[error("it does not return a field of its object")]
    NotAGetter,
    /// Nothing shows which function writes key logs.
    #[error("no function is called with all labels of key logs")]
    NotLogged,
    /// Several functions could be the one that writes key logs.
    #[error("several functions are called with the labels of key logs")]
    SeveralLogFunctions,
    /// What is called with the labels is something else.
    #[error("the function that is called with the labels of key logs does not write secrets in hexadecimal")]
    NotALogFunction,
    /// A secret without it is of no use.
    #[error("the function that writes key logs does not show where the client's random is")]
    RandomElsewhere,
    /// Nothing shows where rustls has its secrets.
    #[error("its code does not ask, as rustls 0.23 does, whether to log each secret")]
    NotAskedWhetherToLog,
    /// It is not known which one is used.
    #[error("it has more than one {function}: several versions of rustls")]
    SeveralVersions {
        /// Its name.
        function: &'static str,
    },
    /// A function of rustls is not in the program by name.
    #[error("{function} is not among its symbols: it was inlined, or this is not rustls 0.23")]
    NotAmongSymbols {
        /// Its name.
        function: &'static str,
    },
}
