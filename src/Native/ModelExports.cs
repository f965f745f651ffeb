using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Model;

namespace Tiller.Native;

/// <summary>The functions of <c>tiller.h</c> for models, ids and controllers.</summary>
internal static unsafe class ModelExports
{
    [UnmanagedCallersOnly(EntryPoint = "tiller_last_error", CallConvs = [typeof(CallConvCdecl)])]
    public static byte* LastError() => Failures.Last;

    [UnmanagedCallersOnly(EntryPoint = "tiller_model_load", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Load(byte* path, byte* device, int threads, nint* model)
    {
        try
        {
            Results.Check(model, nameof(model));
            ArgumentOutOfRangeException.ThrowIfNegative(threads);
            var options = new LoadOptions
            {
                Threads = threads,
                Device = device is null ? null : Device.Parse(NativeText.Read(device, nameof(device))),
            };
            *model = Handles.Add(LanguageModel.Load(NativeText.Read(path, nameof(path)), options));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_model_free", CallConvs = [typeof(CallConvCdecl)])]
    public static void FreeModel(nint model) => Handles.Free<LanguageModel>(model);

    [UnmanagedCallersOnly(EntryPoint = "tiller_model_shape", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Shape(nint model, int* layers, int* width, int* vocabulary, int* context)
    {
        try
        {
            var config = Handles.Get<LanguageModel>(model, nameof(model)).Config;
            Results.Set(layers, config.L);
            Results.Set(width, config.D);
            Results.Set(vocabulary, config.V);
            Results.Set(context, config.MaxPositions);
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_tokenize", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Tokenize(nint model, byte* text, int* ids, nuint capacity, nuint* count)
    {
        try
        {
            var tokenizer = Handles.Get<LanguageModel>(model, nameof(model)).Tokenizer;
            Results.Write(tokenizer.Encode(NativeText.Read(text, nameof(text))), ids, capacity, count);
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_chat_tokenize", CallConvs = [typeof(CallConvCdecl)])]
    public static Status TokenizeChat(nint model, byte** roles, byte** contents, nuint messages, int* ids, nuint capacity, nuint* count)
    {
        try
        {
            var chat = Handles.Get<LanguageModel>(model, nameof(model)).Chat;
            Results.CheckItems(roles, messages, nameof(roles));
            Results.CheckItems(contents, messages, nameof(contents));
            var all = new ChatMessage[checked((int)messages)];
            for (int i = 0; i < all.Length; i++)
            {
                all[i] = new ChatMessage(NativeText.Read(roles[i], $"roles[{i}]"), NativeText.Read(contents[i], $"contents[{i}]"));
            }

            Results.Write(chat.Encode(all), ids, capacity, count);
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_detokenize", CallConvs = [typeof(CallConvCdecl)])]
    public static Status Detokenize(nint model, int* ids, nuint count, byte* text, nuint capacity, nuint* length)
    {
        try
        {
            Results.Check(length, nameof(length));
            string decoded = Handles.Get<LanguageModel>(model, nameof(model)).Tokenizer.Decode(Results.Items(ids, count, nameof(ids)));
            byte[] bytes = Encoding.UTF8.GetBytes(decoded);
            *length = (nuint)bytes.Length;
            if (capacity < (nuint)bytes.Length + 1)
            {
                throw new BufferTooSmallException(bytes.Length + 1, capacity);
            }

            Results.Check(text, nameof(text));
            bytes.CopyTo(new Span<byte>(text, bytes.Length));
            text[bytes.Length] = 0;
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_is_end", CallConvs = [typeof(CallConvCdecl)])]
    public static Status IsEnd(nint model, int id, int* isEnd)
    {
        try
        {
            Results.Check(isEnd, "is_end");
            *isEnd = Handles.Get<LanguageModel>(model, nameof(model)).EndIds.Contains(id) ? 1 : 0;
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_controller_load", CallConvs = [typeof(CallConvCdecl)])]
    public static Status LoadController(byte* path, nint* controller)
    {
        try
        {
            Results.Check(controller, nameof(controller));
            *controller = Handles.Add(new LoadedController(Controller.Load(NativeText.Read(path, nameof(path)))));
            return Status.Ok;
        }
        catch (Exception e)
        {
            return Failures.Take(e);
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "tiller_controller_free", CallConvs = [typeof(CallConvCdecl)])]
    public static void FreeController(nint controller) => Handles.Free<LoadedController>(controller);
}
