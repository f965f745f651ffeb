using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Metrics;

namespace Tiller.Serving;

/// <summary>Options of a <see cref="TillerServer"/>.</summary>
public sealed record ServerOptions
{
    /// <summary>The address to listen at; default 127.0.0.1, which other machines cannot reach.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; default 8080. 0 chooses a free port.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>The certificate for HTTPS, with HTTP/1.1 and HTTP/2; null (default) for HTTP/1.1 without encryption.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>Whether the server may listen at an address that other machines can reach without an API key; default false.</summary>
    public bool IsInsecure { get; init; }

    /// <summary>Origins of other web pages that may call the server, such as https://example.org; empty (default) for none.</summary>
    public IReadOnlyList<string> CorsOrigins { get; init; } = [];

    /// <summary>Maximum number of connections; default 1024.</summary>
    public int MaxConnections { get; init; } = 1024;

    /// <summary>Time limit for the headers of a request; default 10 seconds.</summary>
    public TimeSpan HeaderTimeout { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>
/// A web server only for a <see cref="TillerService"/>, with restrictive settings. To add a service to your own application, use
/// <see cref="TillerEndpoints.MapTiller"/>.
/// </summary>
public sealed class TillerServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly TillerService _service;

    private TillerServer(WebApplication app, TillerService service) => (_app, _service) = (app, service);

    /// <summary>The address at which the server listens, such as http://127.0.0.1:8080.</summary>
    public Uri Address { get; private set; } = null!;

    /// <summary>Starts a server.</summary>
    /// <param name="service">The service. The caller owns it.</param>
    /// <param name="options">The options; null for the defaults.</param>
    /// <param name="configure">Adds further services and settings to the host, such as logging; may be null.</param>
    /// <param name="cancellationToken">Cancels the start.</param>
    /// <exception cref="ArgumentException">Other machines can reach the address, and no API key is required.</exception>
    /// <exception cref="IOException">The port is in use.</exception>
    public static async Task<TillerServer> StartAsync(
        TillerService service, ServerOptions? options = null, Action<WebApplicationBuilder>? configure = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(service);
        options ??= new ServerOptions();
        if (!IPAddress.IsLoopback(options.Address) && service.Keys.IsOpen && !options.IsInsecure)
        {
            throw new ArgumentException(
                $"Other machines can reach {options.Address}, and no API key is required: set ServiceOptions.ApiKeys, listen at "
                + "127.0.0.1, or set ServerOptions.IsInsecure.", nameof(options));
        }

        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { EnvironmentName = Environments.Production });
        builder.Logging.ClearProviders();
        builder.Services.AddTiller(service);
        builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics.AddMeter(TillerTelemetry.Name).AddPrometheusExporter());
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(5)); // the texts have ended before
        builder.WebHost.ConfigureKestrel(kestrel => Configure(kestrel, service, options));
        if (options.Certificate is not null)
        {
            builder.WebHost.UseKestrelHttpsConfiguration();
        }

        configure?.Invoke(builder);
        var app = builder.Build();
        try
        {
            app.Use(new OuterGuard(service, options).Invoke);
            app.MapTiller();
            app.MapTillerPlayground();
            await app.StartAsync(cancellationToken);
            string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
            return new TillerServer(app, service) { Address = new Uri(address) };
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
    }

    /// <summary>Stops: accepts no more requests, waits for the running texts, ends those that are left after a while, and stops listening.</summary>
    /// <param name="patience">Time that running texts have to end.</param>
    public async Task DrainAsync(TimeSpan patience)
    {
        await _service.DrainAsync(patience);
        await _app.StopAsync();
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private static void Configure(KestrelServerOptions kestrel, TillerService service, ServerOptions options)
    {
        kestrel.AddServerHeader = false;
        kestrel.AllowSynchronousIO = false;
        kestrel.Limits.MaxRequestBodySize = service.Options.MaxBodyBytes;
        kestrel.Limits.MaxConcurrentConnections = options.MaxConnections;
        kestrel.Limits.RequestHeadersTimeout = options.HeaderTimeout;
        kestrel.Limits.MaxRequestHeadersTotalSize = 16 << 10;
        kestrel.Limits.MaxRequestLineSize = 4 << 10;
        kestrel.Limits.MaxRequestHeaderCount = 64;
        kestrel.Listen(options.Address, options.Port, listen =>
        {
            listen.Protocols = options.Certificate is null ? HttpProtocols.Http1 : HttpProtocols.Http1AndHttp2;
            if (options.Certificate is { } certificate)
            {
                listen.UseHttps(certificate);
            }
        });
    }
}
