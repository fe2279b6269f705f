import CMLXRT

/// MLX's memory in bytes, for the whole process, all models together.
public enum Memory {
    /// What arrays use: weights, caches and work in progress.
    public static var active: UInt64 { get throws { try read(mlxrt_memory_active) } }

    /// The most that was active since the start or the last `resetPeak`.
    public static var peak: UInt64 { get throws { try read(mlxrt_memory_peak) } }

    /// What MLX keeps for reuse after arrays were freed. MLX's CPU build keeps none.
    public static var cache: UInt64 { get throws { try read(mlxrt_memory_cache) } }

    /// Limits what MLX keeps for reuse (0: nothing) and returns the limit until now.
    @discardableResult
    public static func setCacheLimit(_ bytes: UInt64) throws -> UInt64 {
        try read { mlxrt_memory_set_cache_limit(bytes, $0) }
    }

    /// Limits MLX's memory and returns the limit until now. It is a guideline: above it allocations
    /// first give kept memory back and wait for running work.
    @discardableResult
    public static func setLimit(_ bytes: UInt64) throws -> UInt64 {
        try read { mlxrt_memory_set_limit(bytes, $0) }
    }

    /// Limits the memory that macOS keeps wired for the GPU and returns the limit until now. It has
    /// no effect on other systems.
    @discardableResult
    public static func setWiredLimit(_ bytes: UInt64) throws -> UInt64 {
        try read { mlxrt_memory_set_wired_limit(bytes, $0) }
    }

    /// Gives what MLX keeps for reuse back to the system.
    public static func clearCache() throws { try check { mlxrt_memory_clear_cache() } }

    /// Starts the peak anew from what is active now.
    public static func resetPeak() throws { try check { mlxrt_memory_reset_peak() } }

    private static func read(_ call: (UnsafeMutablePointer<UInt64>) -> Int32) throws -> UInt64 {
        var value: UInt64 = 0
        try check { call(&value) }
        return value
    }
}
