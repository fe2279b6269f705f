import CMLXRT

/// Something to compute on.
public enum Device: Int32, Sendable {
    /// The GPU where MLX has one, else the CPU.
    case auto = 0
    /// The host's processors.
    case cpu = 1
    /// The first Metal or CUDA device.
    case gpu = 2

    /// Describes the device; `auto` stands for the one that a model would be loaded on. A device that
    /// is not there is described as not available.
    public func info() throws -> DeviceInfo {
        var desc = mlxrt_device_desc()
        desc.struct_size = MemoryLayout<mlxrt_device_desc>.stride
        try check { mlxrt_device_info(rawValue, &desc) }
        return DeviceInfo(
            device: Device(rawValue: desc.device) ?? .auto,
            isAvailable: desc.available != 0,
            memoryBytes: desc.memory_bytes,
            name: String(cString: desc.name))
    }
}

/// What `Device.info` tells.
public struct DeviceInfo: Equatable, Sendable {
    /// Never `auto`.
    public let device: Device
    /// Whether MLX can use it here.
    public let isAvailable: Bool
    /// Its memory; 0 where MLX does not say.
    public let memoryBytes: UInt64
    public let name: String
}

/// The type that a model computes in.
public enum DType: Int32, Sendable {
    /// `float32` on the CPU, the checkpoint's own type on a GPU.
    case auto = 0
    case float32 = 1
    case float16 = 2
    /// 16 bits with the range of `float32`.
    case bfloat16 = 3
}
