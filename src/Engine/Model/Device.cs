using System.Globalization;

namespace Tiller.Model;

/// <summary>The device that runs a model. The default value is <see cref="Auto"/>.</summary>
public readonly record struct Device
{
    private const string CudaName = "cuda";

    private readonly Kind _kind;
    private readonly int _ordinal;

    private Device(Kind kind, int ordinal = 0) => (_kind, _ordinal) = (kind, ordinal);

    private enum Kind
    {
        Auto,
        Cpu,
        Cuda,
    }

    /// <summary>The first CUDA device, or the CPU if there is none.</summary>
    public static Device Auto => default;

    /// <summary>The CPU.</summary>
    public static Device Cpu => new(Kind.Cpu);

    /// <summary>Number of the CUDA device; null for any other device.</summary>
    public int? CudaOrdinal => _kind == Kind.Cuda ? _ordinal : null;

    internal bool IsAuto => _kind == Kind.Auto;

    /// <summary>A CUDA device.</summary>
    /// <param name="ordinal">Number of the device, counted from 0 as the driver does.</param>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public static Device Cuda(int ordinal = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(ordinal);
        return new Device(Kind.Cuda, ordinal);
    }

    /// <summary>Parses a device name: auto, cpu, cuda (the first CUDA device) or cuda:N. It accepts every result of <see cref="ToString"/>.</summary>
    /// <exception cref="DeviceNameException">The name is none of these.</exception>
    public static Device Parse(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name switch
        {
            "auto" => Auto,
            "cpu" => Cpu,
            CudaName => Cuda(),
            _ when name.StartsWith(CudaName + ":", StringComparison.Ordinal) && int.TryParse(
                name.AsSpan(CudaName.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal) => Cuda(ordinal),
            _ => throw new DeviceNameException(name),
        };
    }

    /// <summary>The device's name: auto, cpu or cuda:N.</summary>
    public override string ToString() => _kind switch
    {
        Kind.Cpu => "cpu",
        Kind.Cuda => string.Create(CultureInfo.InvariantCulture, $"{CudaName}:{_ordinal}"),
        _ => "auto",
    };
}
