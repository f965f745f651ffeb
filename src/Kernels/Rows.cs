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
    /// <summary><see cref="DeviceLayerLaw"/> // (stages), on the device.</summary>
    public nint Layers;

    /// <summary>α // (slots, sensors).</summary>
    public nint Errors;

    /// <summary>dα // (tangent rows of the batch, sensors).</summary>
    public nint TangentErrors;

    /// <summary>|u_k| // (slots, LayerCount).</summary>
    public nint InputNorms;

    /// <summary>|x_k| // (slots, LayerCount).</summary>
    public nint StateNorms;

    /// <summary>|u_k| before the bound // (slots, LayerCount).</summary>
    public nint FreeNorms;

    /// <summary>Sensors of the whole law.</summary>
    public int Sensors;

    /// <summary>Stages: L, or 2 L where block inputs are moved, those behind the others.</summary>
    public int LayerCount;

    /// <summary>Bound on |u_k|; infinity for none.</summary>
    public float MaxEffort;

    /// <summary>The stage that a step begins with.</summary>
    public int FirstStage;

    /// <summary>A <see cref="DeviceSteering"/> in whose first line the step after this one is taken down; 0 is this one.</summary>
    public nint Next;

    /// <summary><see cref="DeviceEdit"/>, by point and block; 0 for none.</summary>
    public nint Edits;

    /// <summary>Where the edits of each point of a block begin, and where the last one's end // (EditPoints + 1).</summary>
    public nint EditBegin;

    /// <summary>|Δz| // (slots, EditPoints).</summary>
    public nint EditNorms;

    /// <summary>|z| before and after, of rows that are scaled back together // (slots, 2).</summary>
    public nint Joined;

    /// <summary>Scratch of flows // (slots, D).</summary>
    public nint EditScratch;

    /// <summary>4 L.</summary>
    public int EditPoints;

    /// <summary>Fills up.</summary>
    public int Reserved;
}

/// <summary>An edit of an activation as the kernels read it: <c>TillerEdit</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceEdit
{
    /// <summary>Its vectors under each other.</summary>
    public nint Numbers;

    /// <summary>Tables of a flow's sketch.</summary>
    public nint Places;

    /// <summary>0 affine, 1 ablation, 2 kept norm, 3 flow.</summary>
    public int Kind;

    /// <summary>Features of a flow's sketch.</summary>
    public int Size;

    /// <summary>Sensor that switches it among all of the law's, -1 for none.</summary>
    public int Gate;

    /// <summary>Steps of a flow.</summary>
    public int Steps;

    /// <summary>How much of it is done.</summary>
    public float Strength;

    /// <summary>√γ of a flow's sketch.</summary>
    public float RootGamma;

    /// <summary>√c₀ of a flow's sketch.</summary>
    public float RootConstant;

    /// <summary>Not 0 where the rows of a pass are scaled back together.</summary>
    public int Joins;
}

/// <summary>One block's part of a law as the kernels read it: <c>TillerLayerLaw</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DeviceLayerLaw
{
    /// <summary>Directions read // (sensors, D).</summary>
    public nint V;

    /// <summary>Lower ends of the sensors' intervals, or setpoints // (sensors).</summary>
    public nint Low;

    /// <summary>Upper ends of the intervals, or the setpoints again // (sensors).</summary>
    public nint High;

    /// <summary>Index of each sensor among all of the law's // (sensors).</summary>
    public nint Sensor;

    /// <summary>Directions moved along // (terms, D).</summary>
    public nint W;

    /// <summary>Open-loop strengths // (terms).</summary>
    public nint C;

    /// <summary>Sensor that switches each term among all of the law's, -1 for none // (terms).</summary>
    public nint Gate;

    /// <summary>Where each term's feeds begin, and where the last one's end // (terms + 1).</summary>
    public nint FeedBegin;

    /// <summary>Sensor of each feed among all of the law's // (feeds).</summary>
    public nint FeedSensor;

    /// <summary>Gain of each feed // (feeds).</summary>
    public nint FeedGain;

    /// <summary>The two sensors of each plane among those of the block // (planes, 2).</summary>
    public nint PlaneSensors;

    /// <summary>cos θ and sin θ of each plane // (planes, 2).</summary>
    public nint PlaneTargets;

    /// <summary>Sensors of this block.</summary>
    public int Sensors;

    /// <summary>Terms of this block.</summary>
    public int Terms;

    /// <summary>Planes of this block.</summary>
    public int Planes;

    /// <summary>Not 0 where a sensor has an interval or is in a plane, so that tangents depend on the state.</summary>
    public int Bends;

    /// <summary>Not 0 where |x| is wanted: the stage has terms, or its block edits.</summary>
    public int KeepsNorm;

    /// <summary>Fills up.</summary>
    public int Reserved;
}
