using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>A model that an application serves or chats with.</summary>
public sealed record TillerOptions
{
    /// <summary>The checkpoint's folder, or its name in the Hugging Face cache.</summary>
    public required string Model { get; init; }

    /// <summary>Device, threads and the rest; null (default) for the defaults.</summary>
    public LoadOptions? Load { get; init; }

    /// <summary>What is offered, and to whom; null (default) for the defaults.</summary>
    public ServiceOptions? Service { get; init; }
}

/// <summary>Puts models into an application's services, and makes chat clients of them.</summary>
public static class TillerServices
{
    /// <summary>A chat client of a model, with a scheduler of its own that ends with it.</summary>
    /// <param name="model">Stays its caller's; is not to be disposed of before the client.</param>
    /// <param name="options">What is admitted; null for the defaults.</param>
    /// <returns>The client. Its options may hold <see cref="SteeringOptions"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An option is outside its range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public static IChatClient AsChatClient(this LanguageModel model, SchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        return new TillerChatClient(model, options);
    }

    /// <summary>
    /// A chat client of a service: its answers run in one batch with those of all others. Disposing of it leaves the service as it is.
    /// </summary>
    /// <param name="service">Stays its caller's.</param>
    /// <returns>The client. Its options may hold <see cref="SteeringOptions"/>, which may name the service's controllers.</returns>
    public static IChatClient AsChatClient(this TillerService service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return new TillerChatClient(service);
    }

    /// <summary>Makes a service known to the application, and a chat client of it. It stays its caller's.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="service">The service.</param>
    public static IServiceCollection AddTiller(this IServiceCollection services, TillerService service)
    {
        ArgumentNullException.ThrowIfNull(service);
        services.AddSingleton(service);
        services.TryAddSingleton<IChatClient>(provider => provider.GetRequiredService<TillerService>().AsChatClient());
        return services;
    }

    /// <summary>
    /// A model that is loaded when it is first asked for: the application gets a <see cref="TillerService"/> and an <c>IChatClient</c> of it, and
    /// frees both when it ends.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="options">Which model.</param>
    public static IServiceCollection AddTiller(this IServiceCollection services, TillerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        services.AddSingleton(_ => new OwnedService(options));
        services.AddSingleton(provider => provider.GetRequiredService<OwnedService>().Service);
        services.TryAddSingleton<IChatClient>(provider => provider.GetRequiredService<TillerService>().AsChatClient());
        return services;
    }

    /// <summary>As the other, under a key, so that an application may have several models.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="key">Key of the <see cref="TillerService"/> and of the <c>IChatClient</c>.</param>
    /// <param name="options">Which model.</param>
    public static IServiceCollection AddKeyedTiller(this IServiceCollection services, object key, TillerOptions options)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(options);
        services.AddKeyedSingleton(key, (_, _) => new OwnedService(options));
        services.AddKeyedSingleton(key, (provider, k) => provider.GetRequiredKeyedService<OwnedService>(k).Service);
        services.AddKeyedSingleton(key, (provider, k) => provider.GetRequiredKeyedService<TillerService>(k).AsChatClient());
        return services;
    }

    /// <summary>
    /// A check of the application's <see cref="TillerService"/>: healthy while it takes requests, degraded while its queue is full, unhealthy
    /// while it stops.
    /// </summary>
    /// <param name="checks">The application's checks.</param>
    /// <param name="name">Name of the check.</param>
    /// <param name="serviceKey">Key of the service; null for the one without.</param>
    public static IHealthChecksBuilder AddTiller(this IHealthChecksBuilder checks, string name = "tiller", object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(checks);
        return checks.Add(new HealthCheckRegistration(
            name,
            provider => new TillerHealthCheck(
                serviceKey is null ? provider.GetRequiredService<TillerService>() : provider.GetRequiredKeyedService<TillerService>(serviceKey)),
            failureStatus: null, tags: null));
    }

    /// <summary>
    /// A service and the model under it, which go in this order. The container disposes of the service, too, for it made it known; that changes
    /// nothing any more.
    /// </summary>
    private sealed class OwnedService : IDisposable
    {
        private readonly LanguageModel _model;

        public OwnedService(TillerOptions options)
        {
            _model = LanguageModel.Load(options.Model, options.Load);
            try
            {
                Service = new TillerService(_model, options.Service);
            }
            catch
            {
                _model.Dispose();
                throw;
            }
        }

        public TillerService Service { get; }

        public void Dispose()
        {
            Service.Dispose();
            _model.Dispose();
        }
    }

    private sealed class TillerHealthCheck(TillerService service) : IHealthCheck
    {
        public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
        {
            var status = service.Scheduler.Status;
            var data = new Dictionary<string, object>(StringComparer.Ordinal)
            {
                ["running"] = status.Running,
                ["queued"] = status.Queued,
                ["kv_bytes"] = status.KvBytes,
            };
            var result = !service.IsReady ? HealthCheckResult.Unhealthy("No requests are taken any more.", data: data)
                : status.Queued >= service.Options.Scheduler.MaxQueued ? HealthCheckResult.Degraded("As many texts wait as may.", data: data)
                : HealthCheckResult.Healthy("Requests are taken.", data);
            return Task.FromResult(result);
        }
    }
}
