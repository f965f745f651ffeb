using System.CommandLine;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Tool;

/// <summary>The device that runs the model.</summary>
/// <param name="Device">The device; null for the default.</param>
/// <param name="Threads">Number of CPU threads; 0 for one per processor.</param>
/// <param name="Kv">How keys and values are stored.</param>
internal sealed record DeviceRequest(Device? Device, int Threads, KvType Kv = KvType.F32)
{
    /// <summary>The options for loading a model on this device.</summary>
    public LoadOptions ToLoadOptions() => new() { Device = Device, Threads = Threads, KvType = Kv };
}

/// <summary>The options of the commands that run a model.</summary>
/// <param name="decodes">Whether the command decodes texts and fits nothing for them, so that the storage of keys and values is an option.</param>
internal sealed class DeviceArguments(bool decodes = false)
{
    private readonly Option<Device?> _device = new("--device")
    {
        Description = "The device that runs the model; auto is the first CUDA device, or the CPU if there is none. "
            + $"[default: {Devices.Variable}, or auto]",
        HelpName = "auto|cpu|cuda|cuda:N",
        CustomParser = result =>
        {
            try
            {
                return Device.Parse(result.Tokens[^1].Value);
            }
            catch (DeviceNameException e)
            {
                result.AddError(e.Message);
                return null;
            }
        },
    };

    private readonly Option<int> _threads = Threads();

    private readonly Option<KvType> _kv = new("--kv")
    {
        Description = "How keys and values are stored. In bf16, on the CPU only, they take half the memory, and long texts are decoded faster; "
            + "the logits change by the rounding. [default: f32]",
        HelpName = "f32|bf16",
        CustomParser = result =>
        {
            switch (result.Tokens[^1].Value)
            {
                case "f32":
                    return KvType.F32;
                case "bf16":
                    return KvType.BF16;
                default:
                    result.AddError($"--kv must be f32 or bf16, got '{result.Tokens[^1].Value}'.");
                    return default;
            }
        },
    };

    /// <summary>The option for the number of CPU threads.</summary>
    public static Option<int> Threads() =>
        OptionKinds.Number(
            "--threads", "Number of CPU threads; 0 for one per processor.", 0, n => n is >= 0 and <= 1024, "a whole number, 0 to 1024");

    /// <summary>These options.</summary>
    public IReadOnlyList<Option> Options => decodes ? [_device, _threads, _kv] : [_device, _threads];

    public void AddTo(Command command)
    {
        foreach (var option in Options)
        {
            command.Add(option);
        }
    }

    public DeviceRequest Read(ParseResult parse) =>
        new(parse.GetValue(_device), parse.GetValue(_threads), decodes ? parse.GetValue(_kv) : default);
}
