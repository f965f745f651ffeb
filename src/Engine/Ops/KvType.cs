namespace Tiller.Ops;

/// <summary>How keys and values are stored. Attention computes with float32 in any case.</summary>
public enum KvType
{
    /// <summary>float32, as they are computed.</summary>
    F32,

    /// <summary>
    /// bfloat16: every number is rounded to the nearest one, ties to even, when it is stored, and everything that reads it, its own token included,
    /// reads the rounded number. It takes half the memory, and half the reading of a step.
    /// </summary>
    BF16,
}

/// <summary>The device cannot store keys and values in the requested type.</summary>
public sealed class KvTypeException : TillerException
{
    internal KvTypeException(KvType type, string device)
        : base($"Keys and values are stored as {type} on the CPU only, and the model is to run on {device}. "
            + "Run it on the CPU (LoadOptions.Device = Device.Cpu), or leave LoadOptions.KvType at its default.")
    {
        Type = type;
    }

    /// <summary>The requested type.</summary>
    public KvType Type { get; }
}
