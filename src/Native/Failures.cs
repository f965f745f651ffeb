using Tiller.Decode;
using Tiller.Interop;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Native;

/// <summary>The result of a call: <c>tiller_status</c>.</summary>
internal enum Status
{
    Ok,
    Argument,
    Input,
    Device,
    Numerical,
    Context,
    State,
    Buffer,
    Internal,
}

/// <summary>Turns exceptions into a status and a text that the thread keeps. No exception leaves the library.</summary>
internal static unsafe class Failures
{
    [ThreadStatic]
    private static NativeText? t_last;

    /// <summary>The message of the thread's last error; empty if there was none.</summary>
    public static byte* Last
    {
        get
        {
            if (t_last is null)
            {
                Set("");
            }

            return t_last!.Bytes;
        }
    }

    /// <summary>Keeps the message of an error.</summary>
    /// <returns>The status of the error.</returns>
    public static Status Take(Exception error)
    {
        var status = StatusOf(error);
        Set(status == Status.Internal ? $"The library failed: {error}" : error.Message);
        return status;
    }

    private static void Set(string text) => (t_last ??= new NativeText()).Set(text);

    private static Status StatusOf(Exception error) => error switch
    {
        BufferTooSmallException => Status.Buffer,
        ContextLengthException => Status.Context,
        NonFiniteLogitsException or NonFiniteStateException or BatchLogitsException => Status.Numerical,
        DeviceUnavailableException or DeviceMemoryException or CudaException or OutOfMemoryException => Status.Device,
        ObjectDisposedException or ArgumentException or SamplingOptionsException or DeviceNameException or ModelMismatchException => Status.Argument,
        TillerException or IOException or UnauthorizedAccessException => Status.Input,
        InvalidOperationException => Status.State,
        _ => Status.Internal,
    };
}

/// <summary>A caller's buffer is too small. The necessary size has been written.</summary>
internal sealed class BufferTooSmallException(long needed, nuint capacity)
    : TillerException($"The buffer has room for {capacity}, but needs {needed}: call again with a larger buffer.");
