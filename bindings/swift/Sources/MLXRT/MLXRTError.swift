import CMLXRT
import Foundation

/// A call that the library refused or could not finish.
///
/// A call that ended because its task was cancelled throws `CancellationError` instead.
public struct MLXRTError: Error, Equatable, Sendable {
    /// What went wrong.
    public enum Status: Int32, Sendable {
        /// An argument is out of range or malformed.
        case badArgument = 1
        /// A file or folder does not exist.
        case notFound = 2
        /// A file of the model is broken; the message names it and what was expected.
        case badModel = 3
        /// The model is sound but of a kind that the library does not run, or the device is missing,
        /// or the library does not fit this package.
        case unsupported = 4
        /// The prompt does not fit the model's context.
        case contextFull = 5
        /// Memory ran out, or the memory limit was reached.
        case outOfMemory = 6
        /// The call was stopped.
        case cancelled = 7
        /// The model is closed, or was closed during the call.
        case closed = 8
        /// A buffer was too small. This package never lets it come to that.
        case bufferTooSmall = 9
        /// MLX reported an error.
        case mlx = 10
        /// A defect of the library, please report it. The process is safe.
        case `internal` = 11
        /// The system refused to write or read a file that is no part of a model; the disk is full, say.
        case io = 12
        /// A download failed. What arrived is gone on from where that is possible.
        case network = 13
        /// As many requests wait for the model as may, or another call uses the session.
        case busy = 14
    }

    public let status: Status

    /// For people.
    public let message: String
}

extension MLXRTError: LocalizedError, CustomStringConvertible {
    public var description: String { "mlxrt: \(message)" }
    public var errorDescription: String? { description }
}

/// Calls into C and throws what its status says. The message belongs to the calling thread, which
/// stays the same as nothing here suspends.
func check(_ call: () -> Int32) throws {
    try Library.checkInterface()
    let status = call()
    guard status != 0 else { return }
    throw MLXRTError(
        status: MLXRTError.Status(rawValue: status) ?? .internal,
        message: String(cString: mlxrt_error_message()))
}
