using System.Text.Json.Serialization;

namespace Tiller.Tool;

/// <summary>Reports an error as a line on stderr, and with <c>--json</c> as an object on stdout.</summary>
internal static class ErrorReport
{
    /// <summary>Reports an error.</summary>
    /// <returns>The exit code.</returns>
    public static int Write(Terminal terminal, Exception error, int code, bool json)
    {
        string message = error is OperationCanceledException ? "cancelled." : OptionNames.Of(error.Message);
        terminal.Error.WriteLine($"tiller: error: {VisibleText.Of(message)}");
        if (json)
        {
            Json.Write(terminal.Output, new ErrorJson(new ErrorTold(TypeOf(error), message)), ErrorJsonContext.Default.ErrorJson);
        }

        return code;
    }

    private static string TypeOf(Exception error) => error switch
    {
        OperationCanceledException => "Cancelled",
        _ when error.GetType().Name.EndsWith("Exception", StringComparison.Ordinal) => error.GetType().Name[..^"Exception".Length],
        _ => error.GetType().Name,
    };
}

/// <summary>The JSON of a command that fails.</summary>
internal sealed record ErrorJson(ErrorTold Error);

/// <summary>The error's type and message.</summary>
internal sealed record ErrorTold(string Type, string Message);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ErrorJson))]
internal sealed partial class ErrorJsonContext : JsonSerializerContext;
