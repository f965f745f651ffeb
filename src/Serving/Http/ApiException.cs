using System.Globalization;
using Microsoft.AspNetCore.Http;
using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Scheduling;
using Tiller.Synthesis;
using Tiller.Tokens;

namespace Tiller.Serving;

/// <summary>A request that cannot be answered, in the form of OpenAI's errors.</summary>
/// <param name="status">The HTTP status.</param>
/// <param name="type">OpenAI's type of error.</param>
/// <param name="message">What was expected, what came, and what to do.</param>
/// <param name="param">The field that is wrong; null if there is none.</param>
/// <param name="code">A code for programs, or null.</param>
internal sealed class ApiException(int status, string type, string message, string? param = null, string? code = null) : TillerException(message)
{
    public const string InvalidRequest = "invalid_request_error";
    public const string Authentication = "authentication_error";
    public const string RateLimit = "rate_limit_error";
    public const string Server = "server_error";

    // Options in the engine's messages, and the fields of requests that replace them.
    private static readonly (string Option, string Field)[] s_fields =
    [
        (nameof(SamplingOptions.Temperature), "temperature"), (nameof(SamplingOptions.TopK), "top_k"), (nameof(SamplingOptions.TopP), "top_p"),
        (nameof(SamplingOptions.MinP), "min_p"), (nameof(SamplingOptions.RepetitionPenalty), "repetition_penalty"),
        (nameof(SamplingOptions.PresencePenalty), "presence_penalty"), (nameof(SamplingOptions.FrequencyPenalty), "frequency_penalty"),
        (nameof(SamplingOptions.LogProbabilities), "logprobs"), (nameof(SamplingOptions.LogitBias), "logit_bias"),
    ];

    public int Status => status;

    public string Type => type;

    public string? Param => param;

    public string? Code => code;

    /// <summary>After which time to try again; null if the error is permanent.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Makes the error for a request that can never be answered.</summary>
    public static ApiException Bad(string? param, string message, string? code = null) =>
        new(StatusCodes.Status400BadRequest, InvalidRequest, message, param, code);

    /// <summary>Makes the error for something that does not exist.</summary>
    public static ApiException NotFound(string? param, string message, string code) =>
        new(StatusCodes.Status404NotFound, InvalidRequest, message, param, code);

    /// <summary>Makes the error for a defect of the server.</summary>
    public static ApiException Internal() =>
        new(StatusCodes.Status500InternalServerError, Server, "The server failed; its log has the details.", null, "internal");

    /// <summary>The API error for an exception; null for an exception that only a defect can cause.</summary>
    public static ApiException? Of(Exception error) => error switch
    {
        ApiException known => known,
        BadHttpRequestException e => new(e.StatusCode, InvalidRequest, BodyError(e), null, BodyCode(e.StatusCode)),
        RefusedException e => Refused(e),
        ContextLengthException => Bad(null, error.Message, "context_length_exceeded"),
        SamplingOptionsException e => Bad(FieldOf(e.Option), error.Message.Replace(nameof(SamplingOptions) + "." + e.Option, FieldOf(e.Option),
            StringComparison.Ordinal), "invalid_value"),
        StopStringsException => Bad("stop", error.Message, "invalid_value"),
        ChatException e => Bad("messages", error.Message, Snake(e.Code.ToString())),
        TokenizerException => Bad(null, error.Message, "invalid_text"),
        ControllerException or SafetensorsException => Bad(null, error.Message, CodeOf(error)),
        SteeringOverflowException => Bad("steering", error.Message, "steering_overflow"),
        LawCombinationException => Bad("steering", error.Message, "steering_combination"),
        NonFiniteStateException or NonFiniteLogitsException => Bad("steering", error.Message, "not_finite"),
        RiccatiException => Bad(null, error.Message, "riccati"),
        ObjectDisposedException => Stopping("The server is stopping: use another server."),
        TillerException => new(StatusCodes.Status500InternalServerError, Server, error.Message, null, "engine"),
        _ => null,
    };

    /// <summary>The code for an error in a controller's file.</summary>
    public static string CodeOf(Exception error) => error switch
    {
        ControllerException e => Snake(e.Fault.ToString()),
        SafetensorsException e => Snake(e.Error.ToString()),
        _ => "schema",
    };

    /// <summary>Makes the error for a server that is stopping.</summary>
    public static ApiException Stopping(string message) =>
        new(StatusCodes.Status503ServiceUnavailable, Server, message, null, "shutting_down") { RetryAfter = TimeSpan.FromSeconds(1) };

    /// <summary>The value of the header <c>Retry-After</c>; null for none.</summary>
    public string? RetryAfterSeconds => RetryAfter is { } wait ? Math.Ceiling(wait.TotalSeconds).ToString(CultureInfo.InvariantCulture) : null;

    private static ApiException Refused(RefusedException e) => e.Reason switch
    {
        RefusalReason.QueueFull => new(StatusCodes.Status429TooManyRequests, RateLimit,
            $"The queue is full: try again in {e.RetryAfter!.Value.TotalSeconds:F0} s.", null, "rate_limit_exceeded")
        {
            RetryAfter = e.RetryAfter,
        },
        RefusalReason.Draining => Stopping("The server is stopping and accepts no more requests: use another server."),
        RefusalReason.TooManyNewTokens => Bad("max_tokens", e.Message, "invalid_value"),
        RefusalReason.TooManyTexts => Bad(null, e.Message.Replace(" (SchedulerOptions.MaxQueued)", "", StringComparison.Ordinal), "invalid_value"),
        _ => Bad(null, e.Message.Replace(" (SchedulerOptions.MaxPromptTokens)", "", StringComparison.Ordinal)
            .Replace(" (SchedulerOptions.MaxKvBytes)", "", StringComparison.Ordinal), "context_length_exceeded"),
    };

    private static string FieldOf(string option) => Array.Find(s_fields, f => f.Option == option).Field;

    private static string BodyCode(int status) => status switch
    {
        StatusCodes.Status413PayloadTooLarge => "request_too_large",
        StatusCodes.Status408RequestTimeout => "request_timeout",
        _ => "bad_request",
    };

    private static string BodyError(BadHttpRequestException e) => e.StatusCode switch
    {
        StatusCodes.Status413PayloadTooLarge => "The body is too large for this server: send less.",
        StatusCodes.Status408RequestTimeout => "The body did not arrive in time: send it without pauses.",
        _ => $"The request cannot be read: {e.Message}",
    };

    private static string Snake(string name) =>
        string.Concat(name.Select((c, i) => char.IsUpper(c) ? (i > 0 ? "_" : "") + char.ToLowerInvariant(c) : c.ToString()));
}
