package io.apidae.java;

/** One method that is patched: with a call before its code, or with a choice between a method of Hooks and its code. */
final class Patch {
  final String owner;
  final String method;
  final String descriptor;
  final String hook;
  final String hookDescriptor;
  final boolean isAround;
  final boolean hasOuter; // The hook takes the object around this one, too.

  private Patch(
      String owner, String method, String descriptor, String hook, String hookDescriptor, boolean isAround, boolean hasOuter) {
    this.owner = owner;
    this.method = method;
    this.descriptor = descriptor;
    this.hook = hook;
    this.hookDescriptor = hookDescriptor;
    this.isAround = isAround;
    this.hasOuter = hasOuter;
  }

  /** Hooks has a method of the same name that takes this, perhaps the object around it, and the same arguments. */
  static Patch around(String owner, String method, String descriptor, String self, boolean hasOuter) {
    String outer = hasOuter ? "Ljava/net/Socket;" : "";
    return new Patch(owner, method, descriptor, method, "(" + self + outer + descriptor.substring(1), true, hasOuter);
  }

  /** The hook takes this and the same arguments. */
  static Patch before(String owner, String method, String descriptor, String hook, String self) {
    String arguments = descriptor.substring(1, descriptor.indexOf(')'));
    return new Patch(owner, method, descriptor, hook, "(" + self + arguments + ")V", false, false);
  }
}
