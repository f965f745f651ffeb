using System.Diagnostics;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Metrics;

namespace Tiller.Serving;

/// <summary>Adds a <see cref="TillerService"/> to an ASP.NET application.</summary>
public static class TillerEndpoints
{
    /// <summary>Adds the routes of OpenAI's API, with steering (docs/serving.md), for the application's <see cref="TillerService"/>.</summary>
    /// <param name="endpoints">The application, or a group of its routes.</param>
    /// <returns>The group of all routes, to which the application can add its own conventions.</returns>
    /// <exception cref="InvalidOperationException">The application has no <see cref="TillerService"/>.</exception>
    public static IEndpointConventionBuilder MapTiller(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        var service = endpoints.ServiceProvider.GetRequiredService<TillerService>();
        var log = endpoints.ServiceProvider.GetRequiredService<ILoggerFactory>().CreateLogger("Tiller.Serving");
        var group = endpoints.MapGroup("");
        var health = new HealthRoutes(service);
        Map("GET", "/health/live", HealthRoutes.Live, isOpen: true);
        Map("GET", "/health/ready", health.Ready, isOpen: true);
        var models = new ModelRoutes(service);
        Map("GET", "/v1/models", models.List);
        Map("GET", "/v1/models/{model}", models.Get);
        var completions = new CompletionRoutes(service, log);
        Map("POST", "/v1/completions", completions.Complete);
        Map("POST", "/v1/chat/completions", completions.Chat);
        Map("PATCH", "/v1/steering/{id}", new SteeringRoutes(service).Move);
        var controllers = new ControllerRoutes(service);
        Map("GET", "/v1/controllers", controllers.List);
        Map("POST", "/v1/controllers", controllers.Upload);
        var fits = new FitRoutes(service, log);
        Map("POST", "/v1/controllers/fit", fits.Fit);
        Map("DELETE", "/v1/controllers/fit/{id}", fits.GiveUp);
        Map("GET", "/v1/controllers/{name}", controllers.Get);
        Map("DELETE", "/v1/controllers/{name}", controllers.Remove);
        var tokens = new TokenRoutes(service);
        Map("POST", "/tokenize", tokens.Tokenize);
        Map("POST", "/detokenize", tokens.Detokenize);
        Map("GET", "/openapi.json", OpenApiRoute.Get);
        Map("GET", "/metrics", Metrics(endpoints));
        return group;

        void Map(string method, string pattern, RequestDelegate handle, bool isOpen = false) =>
            group.MapMethods(pattern, [method], new GuardedRoute(service, log, handle, isOpen).Invoke);
    }

    // The metrics that the application's meter provider has collected, in the form of OpenTelemetry's exporter for Prometheus.
    private static RequestDelegate Metrics(IEndpointRouteBuilder endpoints) => endpoints.ServiceProvider.GetService<MeterProvider>() is { } provider
        ? endpoints.CreateApplicationBuilder().UseOpenTelemetryPrometheusScrapingEndpoint(
            provider, _ => true, path: null, configureBranchedPipeline: null, optionsName: null).Build()
        : _ => throw ApiException.NotFound(null, "This application collects no metrics: it has no MeterProvider with a Prometheus exporter.",
            "route_not_found");

    /// <summary>
    /// Adds a page on which to try the model: it steers, changes λ while a text streams, shows errors and efforts, and makes controllers. It calls
    /// the routes of <see cref="MapTiller"/>, which must be mapped too. If an API key is required, it asks the user for one.
    /// </summary>
    /// <param name="endpoints">The application, or the group of routes to which <see cref="MapTiller"/> was applied.</param>
    /// <param name="pattern">The address of the page; default /.</param>
    public static IEndpointConventionBuilder MapTillerPlayground(this IEndpointRouteBuilder endpoints, string pattern = "/")
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        return endpoints.MapMethods(pattern, ["GET"], PlaygroundPage.Get);
    }
}

/// <summary>A route with the checks that all routes have: an API key if one is required, errors in one form, and a line in the log.</summary>
internal sealed partial class GuardedRoute(TillerService service, ILogger log, RequestDelegate handle, bool isOpen)
{
    /// <summary>The number of the request's API key; −1 if none is required.</summary>
    public static int KeyOf(HttpContext context) => (int)context.Items[typeof(ApiKeys)]!;

    public async Task Invoke(HttpContext context)
    {
        long begin = Stopwatch.GetTimestamp();
        try
        {
            context.Response.Headers.XContentTypeOptions = "nosniff";
            int? key = isOpen ? -1 : service.Keys.Find(context.Request.Headers.Authorization);
            context.Items[typeof(ApiKeys)] = key ?? throw new ApiException(StatusCodes.Status401Unauthorized, ApiException.Authentication,
                "The request needs an API key of this server in the header 'Authorization: Bearer KEY'; the key is missing or wrong.", null,
                "invalid_api_key");
            await handle(context);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            LogGone(log, context.Request.Method, context.Request.Path);
            return;
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            if (ApiException.Of(e) is not { } error)
            {
                LogDefect(log, e, context.Request.Method, context.Request.Path);
                error = ApiException.Internal();
            }

            await Reply.ErrorAsync(context, error);
        }

        if (!isOpen)
        {
            LogAnswered(log, context.Request.Method, context.Request.Path, context.Response.StatusCode,
                Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
        }
    }

    [LoggerMessage(1, LogLevel.Information, "{Method} {Path}: {Status} in {Milliseconds:F0} ms")]
    private static partial void LogAnswered(ILogger log, string method, string path, int status, double milliseconds);

    [LoggerMessage(2, LogLevel.Information, "{Method} {Path}: the client has disconnected")]
    private static partial void LogGone(ILogger log, string method, string path);

    [LoggerMessage(3, LogLevel.Error, "{Method} {Path}: the server failed")]
    private static partial void LogDefect(ILogger log, Exception error, string method, string path);
}
