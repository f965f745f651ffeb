using System.Net;
using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary>
/// Checks that a stand-alone server makes in addition to those of its routes: which web pages may call it. It also gives errors outside all routes
/// the usual form.
/// </summary>
internal sealed class OuterGuard(TillerService service, ServerOptions options)
{
    // A page of another site can make its host name resolve to this machine, and then its calls come from this machine. But they still have its host
    // name.
    private readonly bool _isForThisMachine = IPAddress.IsLoopback(options.Address) && service.Keys.IsOpen;

    public async Task Invoke(HttpContext context, RequestDelegate next)
    {
        if (_isForThisMachine && !IsThisMachine(context.Request.Host.Host))
        {
            await Reply.ErrorAsync(context, new ApiException(StatusCodes.Status403Forbidden, ApiException.InvalidRequest,
                "This server only accepts requests to localhost, 127.0.0.1 and [::1]. To use another host name, start it with an API key.", null,
                "host_not_allowed"));
            return;
        }

        if (AllowOrigin(context) && HttpMethods.IsOptions(context.Request.Method))
        {
            context.Response.StatusCode = StatusCodes.Status204NoContent;
            return;
        }

        await next(context);
        if (!context.Response.HasStarted && context.Response.ContentLength is null && ErrorOf(context) is { } error)
        {
            await Reply.ErrorAsync(context, error);
        }
    }

    private static bool IsThisMachine(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out var address)
            && IPAddress.IsLoopback(address));

    private static ApiException? ErrorOf(HttpContext context) => context.Response.StatusCode switch
    {
        StatusCodes.Status404NotFound => ApiException.NotFound(null,
            $"There is no route {context.Request.Method} {context.Request.Path}; /openapi.json lists all routes.", "route_not_found"),
        StatusCodes.Status405MethodNotAllowed => new ApiException(StatusCodes.Status405MethodNotAllowed, ApiException.InvalidRequest,
            $"{context.Request.Path} does not support {context.Request.Method}; it supports {context.Response.Headers.Allow}.", null,
            "method_not_allowed"),
        _ => null,
    };

    // True if the origin is allowed.
    private bool AllowOrigin(HttpContext context)
    {
        string? origin = context.Request.Headers.Origin;
        if (options.CorsOrigins.Count == 0 || origin is null)
        {
            return false;
        }

        var headers = context.Response.Headers;
        headers.Vary = "Origin";
        if (!options.CorsOrigins.Contains(origin, StringComparer.OrdinalIgnoreCase))
        {
            return false;
        }

        headers.AccessControlAllowOrigin = origin;
        headers.AccessControlExposeHeaders = "Retry-After";
        headers.AccessControlAllowMethods = "GET, POST, PATCH, DELETE";
        headers.AccessControlAllowHeaders = "Authorization, Content-Type";
        headers.AccessControlMaxAge = "600";
        return true;
    }
}
