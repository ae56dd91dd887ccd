"""loop_detection"""
