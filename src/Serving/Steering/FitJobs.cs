using System.Security.Cryptography;
using System.Threading.Channels;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Tiller.Controllers;

namespace Tiller.Serving;

/// <summary>
/// A fit that runs on its own thread. After each pass it lets a step of the texts run first, so that streams continue.
/// </summary>
internal sealed class FitJob : IProgress<FitProgress>, IDisposable
{
    private readonly TillerService _service;
    private readonly CancellationTokenSource _stop;
    private readonly Channel<FitProgress> _progress = Channel.CreateBounded<FitProgress>(
        new BoundedChannelOptions(64) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true, SingleWriter = true });

    private FitProgress? _told;

    public FitJob(TillerService service, FitRequest request, CancellationToken cancellationToken)
    {
        _service = service;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Completion = Task.Factory.StartNew(
            () => Run(request), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    /// <summary>The id, which cannot be guessed.</summary>
    public string Id { get; } = "fit-" + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));

    /// <summary>The progress, which ends with the fit. If the reader is slow, it misses the oldest items.</summary>
    public ChannelReader<FitProgress> Progress => _progress.Reader;

    /// <summary>The fitted controller, after it has been added to the library.</summary>
    public Task<NamedController> Completion { get; }

    public void Cancel() => _stop.Cancel();

    public void Dispose() => _stop.Dispose();

    // Called on the fit's own thread after a pass. Reports the progress, then lets the texts make a step.
    void IProgress<FitProgress>.Report(FitProgress value)
    {
        if (value != _told)
        {
            _told = value;
            _progress.Writer.TryWrite(value);
        }

        _service.Scheduler.LetStep(_stop.Token);
    }

    private NamedController Run(FitRequest request)
    {
        try
        {
            var fit = ControllerFit.Run(_service.Model, request.Contrast, request.Options, this, _stop.Token);
            string path = _service.Controllers.NewPath();
            try
            {
                fit.Controller.Save(path);
                return _service.Controllers.Add(request.Name, path, request.Replace);
            }
            finally
            {
                File.Delete(path);
            }
        }
        finally
        {
            _progress.Writer.Complete();
        }
    }
}

/// <summary>The routes of fits, of which one can run at a time.</summary>
internal sealed partial class FitRoutes(TillerService service, ILogger log)
{
    public async Task Fit(HttpContext context)
    {
        FitRequest request;
        using (var body = await RequestBody.ReadJsonAsync(context, service.Options))
        {
            request = FitRequest.Read(body.RootElement, service);
        }

        using var job = service.Fits.Begin(() => new FitJob(service, request, context.RequestAborted));
        try
        {
            await using var events = await EventStream.BeginAsync(context);
            await events.SendAsync(json =>
            {
                json.WriteStartObject();
                json.WriteString("id", job.Id);
                json.WriteEndObject();
            }, "job");
            await foreach (var progress in job.Progress.ReadAllAsync(context.RequestAborted))
            {
                await events.SendAsync(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("stage", progress.Stage switch
                    {
                        FitStage.Activations => "activations",
                        FitStage.Certificate => "certificate",
                        _ => "riccati",
                    });
                    json.WriteNumber("done", progress.Done);
                    json.WriteNumber("total", progress.Total);
                    json.WriteEndObject();
                }, "progress");
            }

            await EndAsync(job, events, context.RequestAborted);
        }
        finally
        {
            job.Cancel();
            await Task.WhenAny(job.Completion); // afterwards its thread does not use the model any more
            service.Fits.End(job);
        }
    }

    public Task GiveUp(HttpContext context)
    {
        string? id = (string?)Microsoft.AspNetCore.Routing.RoutingHttpContextExtensions.GetRouteValue(context, "id");
        if (!service.Fits.Cancel(id))
        {
            throw ApiException.NotFound("id", $"No fit '{id}' is running.", "fit_not_found");
        }

        return Reply.JsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", "fit");
            json.WriteBoolean("cancelled", true);
            json.WriteEndObject();
        });
    }

    private async Task EndAsync(FitJob job, EventStream events, CancellationToken cancellationToken)
    {
        try
        {
            var controller = await job.Completion;
            await events.SendAsync(json => ControllerRoutes.Write(json, controller), "done");
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            var error = e is OperationCanceledException
                ? new ApiException(StatusCodes.Status409Conflict, ApiException.InvalidRequest, "The fit was cancelled.", null, "fit_cancelled")
                : ApiException.Of(e);
            if (error is null)
            {
                LogDefect(log, e, job.Id);
                error = ApiException.Internal();
            }

            await events.SendAsync(json => Reply.WriteError(json, error), "error");
        }
    }

    [LoggerMessage(LogLevel.Error, "Fit {Id} failed.")]
    private static partial void LogDefect(ILogger log, Exception error, string id);
}

/// <summary>The fit that is running, if any.</summary>
internal sealed class FitSlot
{
    private readonly Lock _lock = new();
    private FitJob? _job;
    private bool _isClosed;

    /// <summary>Begins a fit.</summary>
    /// <exception cref="ApiException">Another fit is running, or the server is stopping.</exception>
    public FitJob Begin(Func<FitJob> begin)
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                throw ApiException.Stopping("The server is stopping and begins no fit: use another server.");
            }

            return _job = _job is null ? begin() : throw new ApiException(StatusCodes.Status409Conflict, ApiException.InvalidRequest,
                "Another fit is running, and only one can run at a time: try again when it has ended.", null, "fit_running");
        }
    }

    /// <summary>Records that a fit has ended.</summary>
    public void End(FitJob job)
    {
        lock (_lock)
        {
            _job = _job == job ? null : _job;
        }
    }

    /// <summary>Cancels a fit.</summary>
    /// <returns>False if the fit is not running.</returns>
    public bool Cancel(string? id)
    {
        lock (_lock)
        {
            if (_job is null || _job.Id != id)
            {
                return false;
            }

            _job.Cancel();
            return true;
        }
    }

    /// <summary>Cancels the running fit, and allows no other.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _isClosed = true;
            _job?.Cancel();
        }
    }
}
