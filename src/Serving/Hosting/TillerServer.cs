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

/// <summary>Where a <see cref="TillerServer"/> listens.</summary>
public sealed record ServerOptions
{
    /// <summary>The address; default 127.0.0.1, which other machines cannot reach.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>The port; default 8080. 0 takes one that is free.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>Makes it HTTPS, with HTTP/2 beside HTTP/1.1; null (default) for HTTP/1.1 without encryption.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>Whether another address than this machine's own may be listened at without an API key; default false.</summary>
    public bool IsInsecure { get; init; }

    /// <summary>Origins of web pages elsewhere that may call, such as https://example.org; empty (default) for none.</summary>
    public IReadOnlyList<string> CorsOrigins { get; init; } = [];

    /// <summary>Most connections at once; default 1024.</summary>
    public int MaxConnections { get; init; } = 1024;

    /// <summary>How long the head of a request may take; default 10 seconds.</summary>
    public TimeSpan HeaderTimeout { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>
/// A web server for a <see cref="TillerService"/> alone, closed to all but what it is for. To have a service in an application of your own, use
/// <see cref="TillerEndpoints.MapTiller"/>.
/// </summary>
public sealed class TillerServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly TillerService _service;

    private TillerServer(WebApplication app, TillerService service) => (_app, _service) = (app, service);

    /// <summary>Where it listens, such as http://127.0.0.1:8080.</summary>
    public Uri Address { get; private set; } = null!;

    /// <summary>Listens.</summary>
    /// <param name="service">Stays its caller's.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="configure">Further services and settings of the host, such as its log; null for none.</param>
    /// <param name="cancellationToken">Ends the start.</param>
    /// <exception cref="ArgumentException">The address can be reached from elsewhere, and nobody would need a key.</exception>
    /// <exception cref="IOException">The port is taken.</exception>
    public static async Task<TillerServer> StartAsync(
        TillerService service, ServerOptions? options = null, Action<WebApplicationBuilder>? configure = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(service);
        options ??= new ServerOptions();
        if (!IPAddress.IsLoopback(options.Address) && service.Keys.IsOpen && !options.IsInsecure)
        {
            throw new ArgumentException(
                $"{options.Address} can be reached from other machines, and nobody would need a key: give ServiceOptions.ApiKeys, listen at "
                + "127.0.0.1, or set ServerOptions.IsInsecure.", nameof(options));
        }

        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { EnvironmentName = Environments.Production });
        builder.Logging.ClearProviders();
        builder.Services.AddTiller(service);
        builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics.AddMeter(TillerTelemetry.Name).AddPrometheusExporter());
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(5)); // after the texts have ended
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

    /// <summary>Takes no request any more, lets those under way end, ends what is left after a while, and stops listening.</summary>
    /// <param name="patience">How long they have.</param>
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
