using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>A value row of a batch as the kernels read it: <c>TillerRow</c> of rows.cuh, where the fields are explained.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceRow
{
    /// <summary>Token id.</summary>
    public int Id;

    /// <summary>Position in the sequence.</summary>
    public int Position;

    /// <summary>Positions that the cache has room for.</summary>
    public int Capacity;

    /// <summary>Line of the steering state.</summary>
    public int Slot;

    /// <summary>First of its tangent rows, counted from the first tangent row.</summary>
    public int FirstTangent;

    /// <summary>One past the last of its tangent rows.</summary>
    public int EndTangent;

    /// <summary>1 where its sequence is turned by the second half of the rotary tables.</summary>
    public int IsLong;

    /// <summary>Fills up to the addresses.</summary>
    public int Reserved;

    /// <summary>Keys and values of the sequence, on the device.</summary>
    public nint Cache;

    /// <summary>A <see cref="DeviceSteering"/> on the device; 0 for a plain row.</summary>
    public nint Steering;
}

/// <summary>A law at work in one sequence as the kernels read it: <c>TillerSteering</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceSteering
{
    /// <summary><see cref="DeviceLayerLaw"/> // (L), on the device.</summary>
    public nint Layers;

    /// <summary>α // (slots, sensors).</summary>
    public nint Errors;

    /// <summary>dα // (tangent rows of the batch, sensors).</summary>
    public nint TangentErrors;

    /// <summary>|u_k| // (slots, L).</summary>
    public nint InputNorms;

    /// <summary>|x_k| // (slots, L).</summary>
    public nint StateNorms;

    /// <summary>|u_k| before the bound // (slots, L).</summary>
    public nint FreeNorms;

    /// <summary>Sensors of the whole law.</summary>
    public int Sensors;

    /// <summary>L.</summary>
    public int LayerCount;

    /// <summary>Bound on |u_k|; infinity for none.</summary>
    public float MaxEffort;

    /// <summary>Padding.</summary>
    public int Reserved;

    /// <summary>A <see cref="DeviceSteering"/> in whose first line the step after this one is taken down; 0 is this one.</summary>
    public nint Next;
}

/// <summary>One block's part of a law as the kernels read it: <c>TillerLayerLaw</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceLayerLaw
{
    /// <summary>Directions read // (sensors, D).</summary>
    public nint V;

    /// <summary>Setpoints // (sensors).</summary>
    public nint Beta;

    /// <summary>Index of each sensor among all of the law's // (sensors).</summary>
    public nint Sensor;

    /// <summary>Directions moved along // (terms, D).</summary>
    public nint W;

    /// <summary>Open-loop strengths // (terms).</summary>
    public nint C;

    /// <summary>Gains // (terms).</summary>
    public nint S;

    /// <summary>Sensor of each term among all of the law's, -1 for none // (terms).</summary>
    public nint TermSensor;

    /// <summary>Sensors of this block.</summary>
    public int Sensors;

    /// <summary>Terms of this block.</summary>
    public int Terms;
}
