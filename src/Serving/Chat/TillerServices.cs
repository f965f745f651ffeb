using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>The model that an application serves or uses for chats.</summary>
public sealed record TillerOptions
{
    /// <summary>The checkpoint's folder, or its name in the Hugging Face cache.</summary>
    public required string Model { get; init; }

    /// <summary>Options for loading the model; null (default) for the defaults.</summary>
    public LoadOptions? Load { get; init; }

    /// <summary>Options of the service; null (default) for the defaults.</summary>
    public ServiceOptions? Service { get; init; }
}

/// <summary>Adds models to the services of an application, and creates chat clients for them.</summary>
public static class TillerServices
{
    /// <summary>Creates a chat client for a model, with its own scheduler, which is disposed of with the client.</summary>
    /// <param name="model">The model. The caller owns it, and must not dispose of it before the client.</param>
    /// <param name="options">Options of the scheduler; null for the defaults.</param>
    /// <returns>The client. Its chat options may contain <see cref="SteeringOptions"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An option is outside its range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public static IChatClient AsChatClient(this LanguageModel model, SchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        return new TillerChatClient(model, options);
    }

    /// <summary>
    /// Creates a chat client for a service. Its answers are decoded in the same batch as all others of the service. Disposing of the client does not
    /// dispose of the service.
    /// </summary>
    /// <param name="service">The service. The caller owns it.</param>
    /// <returns>The client. Its chat options may contain <see cref="SteeringOptions"/>, which may name the service's controllers.</returns>
    public static IChatClient AsChatClient(this TillerService service)
    {
        ArgumentNullException.ThrowIfNull(service);
        return new TillerChatClient(service);
    }

    /// <summary>Adds a service and a chat client for it to the services of an application. The caller owns the service.</summary>
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
    /// Adds a model that is loaded when it is first requested. The application gets a <see cref="TillerService"/> and an <c>IChatClient</c> for it,
    /// and disposes of both when it ends.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="options">The model and its options.</param>
    public static IServiceCollection AddTiller(this IServiceCollection services, TillerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        services.AddSingleton(_ => new OwnedService(options));
        services.AddSingleton(provider => provider.GetRequiredService<OwnedService>().Service);
        services.TryAddSingleton<IChatClient>(provider => provider.GetRequiredService<TillerService>().AsChatClient());
        return services;
    }

    /// <summary>Adds a model with a key, so that an application may have several models.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="key">The key of the <see cref="TillerService"/> and of the <c>IChatClient</c>.</param>
    /// <param name="options">The model and its options.</param>
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
    /// Adds a health check of the application's <see cref="TillerService"/>: healthy while it accepts requests, degraded while its queue is full, and
    /// unhealthy while it stops.
    /// </summary>
    /// <param name="checks">The health checks of the application.</param>
    /// <param name="name">The name of the check.</param>
    /// <param name="serviceKey">The key of the service; null for the service without a key.</param>
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
    /// A service and its model, which are disposed of in this order. The container disposes of the service a second time, because it has created it;
    /// this has no effect.
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
            var result = !service.IsReady ? HealthCheckResult.Unhealthy("No more requests are accepted.", data: data)
                : status.Queued >= service.Options.Scheduler.MaxQueued ? HealthCheckResult.Degraded("The queue is full.", data: data)
                : HealthCheckResult.Healthy("Requests are accepted.", data);
            return Task.FromResult(result);
        }
    }
}
