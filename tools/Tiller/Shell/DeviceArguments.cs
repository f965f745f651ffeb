using System.CommandLine;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>The device that runs the model.</summary>
/// <param name="Device">The device; null for the default.</param>
/// <param name="Threads">Number of CPU threads; 0 for one per processor.</param>
internal sealed record DeviceRequest(Device? Device, int Threads)
{
    /// <summary>The options for loading a model on this device.</summary>
    public LoadOptions ToLoadOptions() => new() { Device = Device, Threads = Threads };
}

/// <summary>The options of the commands that run a model.</summary>
internal sealed class DeviceArguments
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

    /// <summary>The option for the number of CPU threads.</summary>
    public static Option<int> Threads() =>
        OptionKinds.Number(
            "--threads", "Number of CPU threads; 0 for one per processor.", 0, n => n is >= 0 and <= 1024, "a whole number, 0 to 1024");

    /// <summary>These options.</summary>
    public IReadOnlyList<Option> Options => [_device, _threads];

    public void AddTo(Command command)
    {
        foreach (var option in Options)
        {
            command.Add(option);
        }
    }

    public DeviceRequest Read(ParseResult parse) => new(parse.GetValue(_device), parse.GetValue(_threads));
}
