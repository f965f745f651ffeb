using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary><c>/health</c>: whether the process is alive, and whether it accepts requests.</summary>
internal sealed class HealthRoutes(TillerService service)
{
    public static Task Live(HttpContext context) => Write(context, "live", StatusCodes.Status200OK);

    public Task Ready(HttpContext context) => service.IsReady
        ? Write(context, "ready", StatusCodes.Status200OK)
        : Write(context, "stopping", StatusCodes.Status503ServiceUnavailable);

    private static Task Write(HttpContext context, string status, int code) => Reply.JsonAsync(context, json =>
    {
        json.WriteStartObject();
        json.WriteString("status", status);
        json.WriteEndObject();
    }, code);
}
