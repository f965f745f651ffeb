using System.CommandLine;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>What runs the arithmetic.</summary>
/// <param name="Device">Null for the default.</param>
/// <param name="Threads">Threads of the CPU; 0 for one per processor.</param>
internal sealed record DeviceRequest(Device? Device, int Threads)
{
    /// <summary>How a model is loaded there.</summary>
    public LoadOptions ToLoadOptions() => new() { Device = Device, Threads = Threads };
}

/// <summary>The options of the commands that run a model.</summary>
internal sealed class DeviceArguments
{
    private readonly Option<Device?> _device = new("--device")
    {
        Description = $"What runs the model; auto is the first CUDA device, or the CPU where there is none. [default: {Devices.Variable}, else auto]",
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

    /// <summary>Threads of the CPU.</summary>
    public static Option<int> Threads() =>
        OptionKinds.Number("--threads", "Threads of the CPU; 0 for one per processor.", 0, n => n is >= 0 and <= 1024, "a whole number, 0 to 1024");

    public void AddTo(Command command)
    {
        command.Add(_device);
        command.Add(_threads);
    }

    public DeviceRequest Read(ParseResult parse) => new(parse.GetValue(_device), parse.GetValue(_threads));
}
