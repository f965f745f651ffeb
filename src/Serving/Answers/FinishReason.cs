using Tiller.Decode;

namespace Tiller.Serving;

/// <summary>How OpenAI's API tells why a text ended.</summary>
internal static class FinishReason
{
    /// <summary><c>finish_reason</c>.</summary>
    public static string Of(StopReason reason) => reason is StopReason.EndToken or StopReason.StopString ? "stop" : "length";

    /// <summary><c>stop_reason</c>: the stop string, or the id of the end-of-text token; null for a length, and for a text under way.</summary>
    public static object? StoppedBy(in GeneratedToken last) => last.StopReason == StopReason.EndToken ? last.Id : last.StopString;
}
