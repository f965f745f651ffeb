using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Evaluation.Scorers;
using Tiller.Hub;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The command line is not valid, or its parts contradict each other.</summary>
internal sealed class UsageException(string message) : TillerException(message);

/// <summary>The exit codes; shown by <c>tiller --help</c>.</summary>
internal static class ExitCode
{
    public const int Ok = 0;
    public const int VerificationFailed = 1;
    public const int Usage = 2;
    public const int DeviceUnavailable = 3;
    public const int BadInput = 4;
    public const int Numerical = 5;
    public const int Hub = 6;
    public const int Cancelled = 130;

    public const string Help =
        """
        Exit codes:
          0    done
          1    verify: a value is not within its bound
          2    error in the command line; nothing was run
          3    the requested device, or a necessary CUDA library, is not available
          4    bad input: a file, checkpoint, tokenizer, controller or prompt
          5    numerical failure, or the device failed
          6    pull, or a judge: the server could not be reached, failed, or denied access
          130  cancelled (Ctrl-C); no partial files are left, except those that pull and --prompts continue from
        """;

    /// <summary>The exit code of an error; null for an error that only a defect of tiller can cause.</summary>
    public static int? Of(Exception error) => error switch
    {
        OperationCanceledException => Cancelled,
        DeviceUnavailableException or CudaLibraryMissingException => DeviceUnavailable,
        UsageException or DeviceNameException or KernelArchitectureException or SamplingOptionsException or StopStringsException => Usage,
        NonFiniteLogitsException or NonFiniteStateException or SteeringOverflowException or RiccatiException or DeviceMemoryException
            or CudaException => Numerical,
        UnfinishedTextException { InnerException: { } cause } => Of(cause),
        HubException
        {
            Error: HubError.AccessDenied or HubError.RateLimited or HubError.Unreachable or HubError.Refused or HubError.Protocol
            or HubError.WrongContent
        } => Hub,
        JudgeException => Hub,
        HubException { Error: HubError.Name } => Usage,
        TillerException or IOException or UnauthorizedAccessException => BadInput,
        _ => null,
    };
}
